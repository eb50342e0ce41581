"""Inputs of a tokenizer's step: mirrored pixels, the noise of the bottleneck, and how much of a nested code is kept.

All randomness is a function of (seed, position of the batch), drawn for the whole batch and cut for a rank: a resumed run, or one of
another number of workers, draws the same.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from vitok.config import Recipe
from vitok.data.loading.loader import Batch
from vitok.losses import to_pixels
from vitok.train.ranks import Place


class TokenizerInputs(NamedTuple):
    """A decoded batch with all its randomness, one row a sample."""

    images: Tensor  # (B, [T,] H, W, 3) uint8
    mirrored: Tensor  # (B,) bool
    noise: Tensor  # (B, L, c)
    kept: Tensor  # (B,) int64, tokens of a nested code; (0,) of one that is not

    def micro(self, number: int, of: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return pixels (B / of, 3, [T,] H, W) in [-1, 1], noise and tokens that are kept (None: all) of one of `of` micro-batches, on
        the device."""
        size = len(self.images) // of
        images, mirrored, noise, kept = (part[number * size : (number + 1) * size].to(device, non_blocking=True) for part in self)
        images = torch.where(mirrored.view(-1, *[1] * (images.ndim - 1)), images.flip(-2), images)
        return to_pixels(images), noise, kept if len(kept) else None


def draw_inputs(batch: Batch, position: int, recipe: Recipe, place: Place) -> TokenizerInputs:
    """Draw the inputs of this rank's share of a batch, on the CPU; pinned for a GPU."""
    local = recipe.batch_size // place.world
    share = slice(place.rank * local, (place.rank + 1) * local)
    generator = torch.Generator().manual_seed((recipe.seed << 32) + position)
    size, latent = recipe.batch_size, recipe.tokenizer
    mirrored = torch.rand(size, generator=generator)[share] < (0.5 if recipe.data.flip else 0.0)
    noise = torch.randn(size, latent.tokens, latent.channels, generator=generator)[share]
    lengths = torch.tensor(latent.lengths, dtype=torch.int64)
    kept = lengths[torch.randint(len(lengths), (size,), generator=generator)][share] if latent.lengths else lengths
    inputs = TokenizerInputs(batch.tensor(), mirrored, noise, kept)
    return TokenizerInputs(*(part.pin_memory() for part in inputs)) if place.device.type == "cuda" else inputs


def mean_terms(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of each term over the micro-batches of a step."""
    return {name: torch.stack([terms[name].detach() for terms in each]).mean() for name in each[0]}
