"""PSNR and SSIM against scikit-image and torchmetrics, on real photographs and their distorted copies."""

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import peak_signal_noise_ratio as tm_psnr
from torchmetrics.functional.image import structural_similarity_index_measure as tm_ssim

from tests.models.test_lpips import photographs
from vitok.metrics.psnr_ssim import psnr, ssim, to_uint8


@pytest.fixture(params=[0.02, 0.3], ids=["faint noise", "strong noise"])
def pair(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    x = photographs(64)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return to_uint8(x + request.param * noise), to_uint8(x)


def test_equal_scikit_image(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Both in float64: only the order of sums differs."""
    for i, (image, reference) in enumerate(zip(*(part.permute(0, 2, 3, 1).numpy() for part in pair), strict=True)):
        assert psnr(*pair)[i].item() == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=255), abs=1e-9)
        expected = structural_similarity(
            reference, image, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert ssim(*pair)[i].item() == pytest.approx(expected, abs=1e-9)


def test_equal_torchmetrics(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """torchmetrics also averages over the border, where its window sees a mirrored image; within, the maps are the same."""
    x, y = (part.double() for part in pair)
    assert torch.allclose(psnr(*pair), torch.as_tensor(tm_psnr(x, y, data_range=255.0, reduction="none", dim=(1, 2, 3))), atol=1e-9)
    whole = tm_ssim(x, y, data_range=255.0, reduction="none", return_full_image=True)[1]
    assert torch.allclose(ssim(*pair), whole[..., 5:-5, 5:-5].mean((1, 2, 3)), atol=1e-9)


def test_equal_images_are_perfect() -> None:
    x = to_uint8(photographs(32))
    assert torch.isinf(psnr(x, x)).all()
    assert torch.allclose(ssim(x, x), torch.ones(4, dtype=torch.float64))


def test_rounding_to_uint8() -> None:
    levels = torch.arange(256, dtype=torch.float32)
    assert np.array_equal(to_uint8(levels / 127.5 - 1).numpy(), np.arange(256))
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
