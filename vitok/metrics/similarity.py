"""PSNR and SSIM, one value an image, on uint8 images: what a viewer would be shown, not the network's floats."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Wang et al. 2004: an 11 x 11 Gaussian window of deviation 1.5, K1 = 0.01, K2 = 0.03, population covariance.
WINDOW, DEVIATION, K1, K2 = 11, 1.5, 0.01, 0.03


def to_uint8(pixels: Tensor) -> Tensor:
    """[-1, 1] -> 0 .. 255, clamped and rounded."""
    return pixels.float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,), dB, of two uint8 batches (B, 3, H, W). Equal images give infinity."""
    error = (images.double() - reference.double()).square().mean((1, 2, 3))
    return 10.0 * torch.log10(255.0**2 / error)


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity (B,) of two uint8 batches (B, 3, H, W): mean over channels and over the pixels whose whole
    window lies inside, as scikit-image with gaussian_weights=True, use_sample_covariance=False, sigma=1.5."""
    batch, channels, height, width = images.shape
    offset = torch.arange(WINDOW, dtype=torch.float64, device=images.device) - WINDOW // 2
    kernel = torch.exp(-offset.square() / (2 * DEVIATION**2))
    kernel = kernel / kernel.sum()
    x, y = images.double().flatten(0, 1), reference.double().flatten(0, 1)
    maps = torch.stack([x, y, x * x, y * y, x * y], 1).view(-1, 1, height, width)
    maps = F.conv2d(F.conv2d(maps, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))  # separable
    mx, my, xx, yy, xy = maps.view(batch * channels, 5, *maps.shape[-2:]).unbind(1)
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    score = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
    score = score / ((mx * mx + my * my + c1) * (xx - mx * mx + yy - my * my + c2))
    return score.mean((1, 2)).view(batch, channels).mean(1)
