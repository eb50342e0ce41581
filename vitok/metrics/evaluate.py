"""Reconstruction metrics of a tokenizer on held-out images: per image, then averaged (section 2.3)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vitok.data.sample import Rejection
from vitok.data.stream import Source
from vitok.errors import VitokError
from vitok.losses import frames, to_pixels
from vitok.metrics.similarity import psnr, ssim, to_uint8
from vitok.models.perceptual import LPIPS

METRICS = {"rPSNR": "dB, higher is better", "rSSIM": "higher is better", "LPIPS": "lower is better"}
SHOWN = 16  # images kept for the picture


@dataclass(frozen=True)
class Evaluation:
    per_image: dict[str, list[float]]  # in the order of the validation set
    originals: Tensor  # (N, 3, H, W) uint8, spread over the validation set
    reconstructions: Tensor
    rejected: frozenset[Rejection]

    @property
    def metrics(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self.per_image.items()}


@dataclass(frozen=True)
class Measured:
    """One batch. Of a clip the middle frame is kept."""

    number: int  # among all batches of the evaluation
    values: dict[str, list[float]]
    originals: Tensor
    outputs: Tensor


def evaluate(
    reconstruct: Callable[[Tensor], Tensor], source: Source, batch_size: int, perceptual: LPIPS, device: torch.device,
    rank: int = 0, world: int = 1,
) -> Evaluation:  # fmt: skip
    """Every held-out view of `source` once. `reconstruct` maps pixels (B, 3, [T,] H, W) in [-1, 1] to the same.

    All metrics see the reconstruction as uint8; of a clip, the mean over its frames. With several ranks every one of them
    must call this: each works on its own batches and gets the whole result.
    """
    mine: list[Measured] = []
    rejected: set[Rejection] = set()
    with torch.no_grad():
        for turn, batch in enumerate(source.validation_batches(batch_size, rank, world)):
            rejected |= batch.rejected
            if len(batch.images):
                pixels = to_pixels(batch.tensor().to(device))
                mine.append(_measure(turn * world + rank, reconstruct, pixels, perceptual))
    everything = [(mine, rejected)] * world
    if world > 1:
        dist.all_gather_object(everything, (mine, rejected))
    ordered = sorted((one for part, _ in everything for one in part), key=lambda one: one.number)
    all_rejected = frozenset[Rejection]().union(*(found for _, found in everything))
    if not ordered:
        raise VitokError(f"no held-out sample could be decoded: {'; '.join(sorted(map(str, all_rejected))[:3])}")
    per_image = {name: [value for one in ordered for value in one.values[name]] for name in METRICS}
    originals, outputs = torch.cat([one.originals for one in ordered]), torch.cat([one.outputs for one in ordered])
    shown = torch.linspace(0, len(originals) - 1, min(SHOWN, len(originals))).round().long()
    return Evaluation(per_image, originals[shown], outputs[shown], all_rejected)


def _measure(number: int, reconstruct: Callable[[Tensor], Tensor], pixels: Tensor, perceptual: LPIPS) -> Measured:
    originals, outputs = frames(to_uint8(pixels)), frames(to_uint8(reconstruct(pixels)))
    each = {
        "rPSNR": psnr(outputs, originals),
        "rSSIM": ssim(outputs, originals),
        "LPIPS": perceptual(outputs.float() / 127.5 - 1, originals.float() / 127.5 - 1),
    }
    count = len(pixels)
    values = {name: value.view(count, -1).mean(1).tolist() for name, value in each.items()}
    middle = torch.arange(count, device=pixels.device) * (len(originals) // count) + len(originals) // count // 2
    return Measured(number, values, originals[middle].cpu(), outputs[middle].cpu())
