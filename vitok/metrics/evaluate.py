"""Reconstruction metrics of a tokenizer on held-out images: per image, then averaged (section 2.3)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vitok.data.stream import Batch
from vitok.errors import VitokError
from vitok.losses import to_pixels
from vitok.metrics.similarity import psnr, ssim, to_uint8
from vitok.models.perceptual import LPIPS

METRICS = {"rPSNR": "dB, higher is better", "rSSIM": "higher is better", "LPIPS": "lower is better"}
SHOWN = 16  # images kept for the picture


@dataclass(frozen=True)
class Evaluation:
    per_image: dict[str, list[float]]  # in the order of the validation set
    originals: Tensor  # (N, 3, H, W) uint8, spread over the validation set
    reconstructions: Tensor
    rejected: frozenset[str]

    @property
    def metrics(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self.per_image.items()}


def evaluate(
    reconstruct: Callable[[Tensor], Tensor], batches: Iterator[Batch], perceptual: LPIPS, device: torch.device, rank: int, world: int
) -> Evaluation:
    """Every image of `batches` once. `reconstruct` maps pixels (B, 3, H, W) in [-1, 1] to the same.

    Each rank reads all batches and works on every world-th. All metrics see the reconstruction as uint8.
    With several ranks every one of them must call this, and gets the whole result.
    """
    mine: list[tuple[int, dict[str, list[float]], Tensor, Tensor]] = []
    rejected: set[str] = set()
    idle: Tensor | None = None
    count = 0
    with torch.no_grad():
        for count, batch in enumerate(batches, start=1):
            rejected |= batch.rejected
            if not len(batch.images):
                raise VitokError(f"no held-out image could be decoded: {'; '.join(sorted(rejected)[:3])}")
            pixels = to_pixels(torch.from_numpy(batch.images).to(device))
            idle = pixels if idle is None else idle
            if (count - 1) % world == rank:
                mine.append((count, *_measure(reconstruct, pixels, perceptual)))
        if idle is None:
            raise VitokError("the corpus holds no held-out image")
        if count % world and rank >= count % world:
            reconstruct(idle)  # under ZeRO-3 a forward is a collective: every rank must run as many
    parts: list[list[tuple[int, dict[str, list[float]], Tensor, Tensor]]] = [[] for _ in range(world)]
    dist.all_gather_object(parts, mine) if world > 1 else parts.__setitem__(0, mine)
    ordered = sorted((item for part in parts for item in part), key=lambda item: item[0])
    per_image = {name: [value for _, values, *_ in ordered for value in values[name]] for name in METRICS}
    originals, outputs = torch.cat([item[2] for item in ordered]), torch.cat([item[3] for item in ordered])
    shown = torch.linspace(0, len(originals) - 1, min(SHOWN, len(originals))).round().long()
    return Evaluation(per_image, originals[shown], outputs[shown], frozenset(rejected))


def _measure(reconstruct: Callable[[Tensor], Tensor], pixels: Tensor, perceptual: LPIPS) -> tuple[dict[str, list[float]], Tensor, Tensor]:
    images, output = to_uint8(pixels), to_uint8(reconstruct(pixels))
    values = {
        "rPSNR": psnr(output, images),
        "rSSIM": ssim(output, images),
        "LPIPS": perceptual(output.float() / 127.5 - 1, images.float() / 127.5 - 1),
    }
    return {name: value.tolist() for name, value in values.items()}, images.cpu(), output.cpu()
