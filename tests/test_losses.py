import pytest
import torch

from vitok import losses
from vitok.config import Loss
from vitok.models.bottleneck import Posterior
from vitok.models.tokenizer import Reconstruction
from vitok.networks import weights


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_terms_and_weights_follow_equation_1(kind: str) -> None:
    torch.manual_seed(0)
    target, output = torch.rand(2, 3, 1, 32, 32) * 2 - 1, torch.rand(2, 3, 1, 32, 32) * 2 - 1
    posterior, network = Posterior(torch.randn(2, 16, 4), torch.randn(2, 16, 4)), weights.load_lpips("alexnet")
    chosen = Loss.model_validate({"reconstruction": kind, "kl": 0.25, "lpips": 0.5})
    terms = losses.stage1_loss(Reconstruction(output, posterior), target, chosen, network)
    difference = (output - target).double()
    pixel = difference.square().mean() if kind == "l2" else difference.abs().mean()
    perceptual = network(output.squeeze(2), target.squeeze(2)).double().mean()
    expected = pixel + 0.25 * posterior.kl().double().mean() + 0.5 * perceptual
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(terms) == {"loss", kind, "kl", "lpips"}


def test_lpips_sees_every_frame_of_a_video() -> None:
    video = torch.rand(2, 3, 4, 8, 8)
    images = losses.flatten_frames(video)
    assert images.shape == (8, 3, 8, 8)
    assert torch.equal(images[5], video[1, :, 1])


def test_uint8_is_scaled_to_minus_one_to_one() -> None:
    pixels = losses.to_pixels(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 2, 4, 3))
    assert pixels.shape == (2, 3, 2, 4)
    assert (pixels.min().item(), pixels.max().item()) == (-1.0, 1.0)
