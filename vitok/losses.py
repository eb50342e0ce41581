"""Losses (Equation 1): reconstruction, KL and LPIPS of stage 1 (section 2.3), and the adversarial term of stage 2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitok import config
from vitok.models.lpips import LPIPS
from vitok.models.tokenizer import Reconstruction


def stage1_loss(output: Reconstruction, pixels: Tensor, weights: config.Loss, perceptual: LPIPS | None) -> dict[str, Tensor]:
    """Return the terms of the stage 1 loss and their weighted sum "loss", all float32 scalars.

    `pixels` are (B, 3, T, H, W) or (B, 3, H, W) in [-1, 1]. `perceptual` is needed unless the weight of LPIPS is 0; it takes each frame of
    a video as an image.
    """
    difference = output.pixels.float() - pixels.float()
    reconstruction = difference.square().mean() if weights.reconstruction == "l2" else difference.abs().mean()
    kl = output.posterior.kl().mean()
    terms = {weights.reconstruction: reconstruction, "kl": kl}
    total = reconstruction + weights.kl * kl
    if weights.lpips:
        assert perceptual is not None, "a loss with LPIPS needs its network"
        terms["lpips"] = perceptual(flatten_frames(output.pixels), flatten_frames(pixels)).mean()
        total = total + weights.lpips * terms["lpips"]
    return {"loss": total, **terms}


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return the hinge loss of the discriminator, given its logits (B,) of real and of generated samples (Lim and Ye 2017)."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator(fake: Tensor) -> Tensor:
    """Return the hinge loss of the generator, given the discriminator's logits (B,) of its samples."""
    return -fake.mean()


def flatten_frames(pixels: Tensor) -> Tensor:
    """Flatten videos (B, 3, T, H, W) to frames (B * T, 3, H, W); images (B, 3, H, W) stay as they are."""
    return pixels.transpose(1, 2).flatten(0, 1) if pixels.ndim == 5 else pixels


def to_pixels(images: Tensor) -> Tensor:
    """Convert decoded uint8 (B, [T,] H, W, 3) to float32 (B, 3, [T,] H, W) in [-1, 1]."""
    return images.movedim(-1, 1).to(torch.float32).div(127.5).sub(1.0)
