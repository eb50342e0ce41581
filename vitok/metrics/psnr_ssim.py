"""PSNR and SSIM, one value an image, of uint8 images: what a viewer would see, not the network's floats."""

import torch
from torch import Tensor

from vitok.errors import VitokError

# Wang et al. 2004: an 11 x 11 Gaussian window of deviation 1.5, K1 = 0.01, K2 = 0.03, population covariance.
WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03
PIXELS = 1 << 16  # compared at once: more leave the cache


def to_uint8(pixels: Tensor) -> Tensor:
    """Convert pixels in [-1, 1] to uint8, clamped and rounded."""
    return pixels.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (B,), dB, of two uint8 batches (B, 3, H, W). Equal images give infinity."""
    error = (images.float() - reference.float()).square().flatten(1)  # whole numbers, exact in float32
    return 10.0 * torch.log10(255.0**2 * error.shape[1] / error.sum(1, dtype=torch.float64))


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Return the structural similarity (B,) of two uint8 batches (B, 3, H, W).

    It is the mean over channels and over the pixels whose whole window lies inside, as in scikit-image with gaussian_weights=True,
    use_sample_covariance=False, sigma=1.5. Raises `VitokError` for images smaller than a window of 11 pixels.
    """
    together = max(1, PIXELS // (images.shape[-1] * images.shape[-2]))
    return torch.cat([_ssim(x, y) for x, y in zip(images.split(together), reference.split(together), strict=True)])


def _ssim(images: Tensor, reference: Tensor) -> Tensor:
    x, y = images.double().flatten(0, 1), reference.double().flatten(0, 1)
    rows, columns = (_windows(length, x) for length in x.shape[1:])
    # The window is separable: along an axis it is a product with a matrix of bands, several times as fast as a convolution.
    mx, my, squares, xy = rows @ torch.stack([x, y, x * x + y * y, x * y]) @ columns.T
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    product, power = mx * my, mx * mx + my * my
    score = (2 * product + c1) * (2 * (xy - product) + c2) / ((power + c1) * (squares - power + c2))
    return score.mean((1, 2)).view(len(images), -1).mean(1)


def _windows(length: int, like: Tensor) -> Tensor:
    """Return a matrix (length - 10, length) whose row i is the window over i .. i + 10."""
    if length < WINDOW:
        raise VitokError(f"SSIM looks through windows of {WINDOW} pixels: an image of {length} is too small")
    offset = torch.arange(WINDOW, dtype=torch.float64, device=like.device) - WINDOW // 2
    window = torch.exp(-offset.square() / (2 * DEVIATION**2))
    bands = torch.zeros(length - WINDOW + 1, length, dtype=torch.float64, device=like.device)
    for k, share in enumerate(window / window.sum()):
        bands.diagonal(k).fill_(share)
    return bands
