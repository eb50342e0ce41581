"""Encode views to posteriors: Ray Data tasks decode each view once, and actors encode it with every tokenizer whose set lacks it."""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
import torch
from ray.data import ActorPoolStrategy
from torch import Tensor

from vitok import runtime
from vitok.config import Recipe, variants
from vitok.data.loading import blocks as tasks
from vitok.data.loading.loader import columns
from vitok.data.loading.reader import Reader
from vitok.errors import UsageError, VitokError
from vitok.losses import to_pixels
from vitok.models.bottleneck import Posterior
from vitok.models.checksum import weights_digest
from vitok.models.rope import TokenGrid
from vitok.models.tokenizer import Tokenizer

Columns = dict[str, np.ndarray]
BLOCK_BYTES, BLOCK_VIEWS = 32 << 20, 512  # of pixels that one task decodes, at most
BLOCKS = 4096  # of one plan of Ray Data's, which takes seconds to begin, and the longer the more blocks it has
DECODING = 0.25  # CPUs of a decode task: its work is a fraction of an encoder's on a CPU


@dataclass(frozen=True)
class LatentEncoder:
    """A tokenizer in the form that is sent to an actor: its recipe, its state dict and the hash of the state."""

    recipe: Recipe
    weights: str  # SHA-256 of the state
    state: dict[str, Tensor] = field(repr=False)

    @classmethod
    def of(cls, recipe: Recipe, state: dict[str, Tensor]) -> "LatentEncoder":
        """Return the encoder of a recipe and a state dict, with the hash of the weights computed."""
        return cls(recipe, weights_digest(state), state)

    def open(self, device: torch.device) -> Callable[[Tensor], Posterior]:
        """Return a function from uint8 images (B, [T,] H, W, 3) on the device to their posterior, in the precision of the tokenizer's
        training."""
        model = Tokenizer(self.recipe.tokenizer)
        model.load_state_dict(self.state)
        model.eval().encoder.to(device)

        def encode(images: Tensor) -> Posterior:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
                return model.encode(to_pixels(images))

        return encode

    def grid(self, size: int, frames: int) -> TokenGrid:
        """Return the grid of tokens (T, H, W) for clips of `frames` x `size` x `size` pixels. Raise `UsageError` where the patches do
        not divide them."""
        q, p = self.recipe.tokenizer.stride, self.recipe.tokenizer.patch
        if frames % q or size % p:
            name = variants.variant_name(self.recipe.tokenizer)
            raise UsageError(f"{frames} frame(s) of {size} pixels are not divisible by the tubelets of {name}: {q} frame(s) of {p} pixels")
        return self.recipe.tokenizer.code_of((frames // q, size // p, size // p))


@dataclass(frozen=True)
class EncodingRequest:
    """The request that every encoding actor receives."""

    encoders: list[LatentEncoder]
    firsts: list[int]  # the first view that each encoder's set lacks
    batch: int  # views that are encoded together
    flip: bool
    gpus: int
    reader: Reader


class Encoding:
    """The Ray actor that encodes: all tokenizers of a request on one device."""

    def __init__(self, reference: Any) -> None:
        self.asked: EncodingRequest = ray.get(reference)
        self.device = runtime.device(self.asked.gpus, 1)
        self.encoders = [encoder.open(self.device) for encoder in self.asked.encoders]

    def __call__(self, block: Columns) -> Columns:
        """Encode a block of decoded views, a row each. An error for the user is returned as a row "error", because Ray would wrap an
        exception and log it twice."""
        try:
            return self._encoded(block)
        except VitokError as error:
            return {"error": np.array([str(error)], dtype=object)}

    def _encoded(self, block: Columns) -> Columns:
        found = {name: column for name, column in block.items() if name != "image"}
        for number, encode in enumerate(self.encoders):
            if block["number"][-1] < self.asked.firsts[number]:
                continue
            with torch.inference_mode():
                parts = [
                    _both(
                        encode, torch.from_numpy(block["image"][first : first + self.asked.batch].copy()).to(self.device), self.asked.flip
                    )
                    for first in range(0, len(block["number"]), self.asked.batch)
                ]
            for name in parts[0]:
                found[f"{name}:{number}"] = np.concatenate([part[name] for part in parts])
            finite = np.isfinite(found[f"sums:{number}"]).all(axis=(1, 2, 3)) | ~block["ok"].astype(bool)
            if not finite.all():
                name = self.asked.reader.name(int(block["number"][~finite][0]))
                raise VitokError(f"latents of {name} by the tokenizer {self.asked.encoders[number].weights[:16]} are not finite in fp16")
        return found


def _both(encode: Callable[[Tensor], Posterior], images: Tensor, flip: bool) -> Columns:
    """Encode images (B, [T,] H, W, 3) as they are and, with `flip`, mirrored (M = 2, else 1).

    Return mean and log_variance (B, M, L, c) float16, and sums over the tokens for the statistics (B, M, 3, c) float64: of the mean, its
    square and the variance.
    """
    found: dict[str, list[Tensor]] = {"mean": [], "log_variance": [], "sums": []}
    for mirrored in (False, True)[: 1 + flip]:
        # Views that could not be decoded are encoded as black: a batch is of one size, whose rounding is its own.
        mean, log_variance = (part.half() for part in encode(images.flip(-2) if mirrored else images))
        exact, noise = mean.double(), log_variance.double().exp()
        found["mean"].append(mean)
        found["log_variance"].append(log_variance)
        found["sums"].append(torch.stack([exact.sum(1), exact.square().sum(1), noise.sum(1)], 1))
    return {name: torch.stack(parts, 1).cpu().numpy() for name, parts in found.items()}


def encode_views(wanted: EncodingRequest, actors: int) -> Iterator[Columns]:
    """Yield blocks of the views that some set lacks, in order, a row each: "mean:0", "log_variance:0" and "sums:0" of encoder 0, and so
    on; or an "error"."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    views, batch, gpus, total = wanted.reader, wanted.batch, wanted.gpus, wanted.reader.total
    first, cpus = min(wanted.firsts), int(ray.cluster_resources().get("CPU", 1))
    # A block is whole batches; of few views they are cut finer, so that all have something to do.
    largest = min(BLOCK_BYTES // math.prod(views.shape), BLOCK_VIEWS, (total - first) // (4 * cpus))
    each = max(1, largest // batch) * batch
    starts = range(first, total, each)
    asked = ray.put(wanted)
    for begun in range(0, len(starts), BLOCKS):
        part = starts[begun : begun + BLOCKS]
        blocks = tasks.dataset(_decode(views, part), len(part), cpus=DECODING)
        blocks.context.op_resource_reservation_enabled = True  # decoding must leave the actors their share of the store
        made = blocks.map_batches(
            Encoding, fn_constructor_args=(asked,), batch_size=None, batch_format="numpy", zero_copy_batch=True,
            compute=ActorPoolStrategy(size=min(actors, len(part))), num_gpus=gpus or None, num_cpus=1 if gpus else 1 - DECODING,
        )  # fmt: skip
        found: Any = made.iter_batches(batch_size=None, prefetch_batches=1, batch_format="numpy")
        yield from found


def _decode(views: Reader, starts: range) -> tasks.Make:
    """Return the function that makes a block of decoded views. It is no method, because pickling a class would import this module, and
    so torch, in every process that decodes."""

    def make(block: int) -> tasks.Columns:
        rows = range(starts[block], min(starts[block] + starts.step, views.total))
        return columns(views.views(rows), views) | {"number": np.array(rows)}

    return make
