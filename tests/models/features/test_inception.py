"""The FID Inception against torch-fidelity's, with the same random weights."""

import pytest
import torch
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from tests.models.test_lpips import photographs
from tests.standins import fidelity_inception, inception_state
from vitok.errors import VitokError
from vitok.metrics.psnr_ssim import to_uint8
from vitok.models.features.inception import Inception, resize


def test_equals_torch_fidelity() -> None:
    state = inception_state()
    images = to_uint8(photographs(96))
    pooled, logits = fidelity_inception(state, ["2048", "logits_unbiased"])(images)
    with torch.inference_mode():
        ours = Inception(state)(images)
    assert ours.logits is not None
    # float32 through 94 convolutions, which the folded batch norms round elsewhere.
    for mine, theirs in ((ours.pooled, pooled), (ours.logits, logits)):
        assert (mine - theirs).norm() < 3e-6 * theirs.norm()
        assert theirs.std(0).mean() > 0.01 * theirs.abs().mean()  # the stand-in tells images apart


@pytest.mark.parametrize("size", [(32, 32), (256, 256), (299, 299), (300, 500)])
def test_resize_is_tensorflows(size: tuple[int, int]) -> None:
    images = torch.randint(0, 256, (2, 3, *size), generator=torch.Generator().manual_seed(0)).float()
    theirs = interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    assert (resize(images) - theirs).abs().max() < 1e-4  # of 255: the rounding of float32


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(VitokError, match="of another network"):
        Inception({"conv1.weight": torch.zeros(1)})
