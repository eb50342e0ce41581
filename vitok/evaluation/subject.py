"""The subject of an evaluation: a name, and a coder that is opened where it runs."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

# Pixels (B, 3, H, W) or (B, 3, T, H, W), float32 in [-1, 1] -> their reconstruction, of the same shape, float32, not
# clamped; and what else is known of each sample, by name, (B,).
Coder = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


class Subject(Protocol):
    """Something that reconstructs. Small enough to be pickled to a worker: what is heavy is read by `open`."""

    @property
    def name(self) -> str:
        """The name in tables."""
        ...

    def open(self, device: torch.device) -> Coder:
        """Open the coder on a device."""
        ...


def by_frames(coder: Coder) -> Coder:
    """Make a coder of images one of images and clips: every frame is an image; a clip's values are the means over its frames."""

    def code(pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if pixels.ndim == 4:
            return coder(pixels)
        batch, frames = len(pixels), pixels.shape[2]
        images, values = coder(pixels.transpose(1, 2).flatten(0, 1))
        return images.unflatten(0, (batch, frames)).transpose(1, 2), {k: v.view(batch, frames).mean(1) for k, v in values.items()}

    return code
