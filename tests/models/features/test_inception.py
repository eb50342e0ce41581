"""The FID Inception, folded and in channels_last, against torch-fidelity's as it is, with the same random weights."""

import pytest
import torch
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as reference

from tests.models.test_lpips import photographs
from tests.standins import fidelity_inception, inception_state
from vitok.errors import VitokError
from vitok.metrics.psnr_ssim import to_uint8
from vitok.models.features.inception import Inception


@pytest.mark.parametrize("size", [96, 320])
def test_equals_torch_fidelity(size: int) -> None:
    state = inception_state()
    images = to_uint8(photographs(size))
    pooled, logits = fidelity_inception(state, ["2048", "logits_unbiased"])(images)
    with torch.inference_mode():
        ours = Inception(state)(images)
    assert ours.logits is not None
    # The rounding of float32 through 94 convolutions: either is 2e-7 to 4e-7 from the same network in float64.
    for mine, theirs in ((ours.pooled, pooled), (ours.logits, logits)):
        assert mine.dtype == torch.float32 and mine.shape == theirs.shape
        assert (mine - theirs).norm() < 3e-6 * theirs.norm()
        assert theirs.std(0).mean() > 0.01 * theirs.abs().mean()  # the stand-in tells images apart


def test_the_network_is_torch_fidelitys_with_every_batch_norm_folded() -> None:
    state = inception_state()
    before = {name: value.clone() for name, value in state.items()}
    network = Inception(state).network
    assert isinstance(network, reference.FeatureExtractorInceptionV3)
    kinds = [type(layer) for layer in network.modules()]
    assert kinds.count(nn.Conv2d) == 94 and nn.BatchNorm2d not in kinds
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_weights_come_from_the_given_tensors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "load_state_dict_from_url", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(VitokError, match=r"of another network .*Conv2d_1a_3x3\.conv\.weight"):
        Inception({"conv1.weight": torch.zeros(1)})
    state = inception_state()
    state["fc.weight"] = state["fc.weight"][:1000]
    with pytest.raises(VitokError, match=r"of another network .* fc\.weight"):
        Inception(state)
