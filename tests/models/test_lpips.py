"""LPIPS against the package of its authors, on the same real weights."""

import lpips
import pytest
import torch

from vitok.data.corpora import sample_photos
from vitok.data.decoding.image import center_crop, load
from vitok.errors import UsageError
from vitok.losses import to_pixels
from vitok.models.lpips import LPIPS
from vitok.networks import weights

NAMES = {"alexnet": "alex", "vgg16": "vgg"}


def photographs(size: int) -> torch.Tensor:
    crops = [center_crop(load(sample_photos.locate(name).read_bytes(), size), size) for name in sample_photos.VALIDATION]
    return to_pixels(torch.stack([torch.tensor(crop) for crop in crops]))


@pytest.mark.parametrize("trunk", ["alexnet", "vgg16"])
def test_equals_the_lpips_package(trunk: str) -> None:
    ours = weights.load_lpips(trunk)
    theirs = lpips.LPIPS(net=NAMES[trunk], pretrained=False, pnet_rand=True, verbose=False).eval()
    convolutions = [m for m in theirs.net.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.no_grad():
        for mine, other in zip(ours.trunk, convolutions, strict=True):
            other.weight.copy_(mine.weight)
            other.bias.copy_(mine.bias)
        for head, lin in zip(ours.heads, theirs.lins, strict=True):
            lin.model[1].weight.copy_(head.view(1, -1, 1, 1))
        x = photographs(64)
        y = (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
        assert (ours(x, y) - theirs(x, y).flatten()).abs().max() < 1e-5
    assert ours(x, y).min() > 0.05


def test_heads_equal_those_that_the_lpips_package_ships() -> None:
    shipped = lpips.LPIPS(net="alex", pretrained=True, pnet_rand=True, verbose=False)
    ours = weights.load_lpips("alexnet")
    for head, lin in zip(ours.heads, shipped.lins, strict=True):
        assert torch.equal(head, lin.model[1].weight.detach().flatten())


def test_gradients_are_finite_where_features_are_dead_or_equal() -> None:
    model = weights.load_lpips("alexnet")
    flat = torch.full((1, 3, 32, 32), -1.0, requires_grad=True)
    model(flat, flat.detach()).sum().backward()
    assert flat.grad is not None and torch.isfinite(flat.grad).all()


def test_autocast_does_not_reach_inside() -> None:
    model, x = weights.load_lpips("alexnet"), photographs(32)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(x, x.flip(-1)), weights.load_lpips("alexnet")(x, x.flip(-1)))
        assert model(x, x.flip(-1)).dtype == torch.float32


def test_too_small_images_are_refused() -> None:
    with pytest.raises(UsageError, match="31 pixels"):
        LPIPS("alexnet")(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))
