"""Small sets of latents: how they are cut, and by what they are encoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from vitok.config import Latents, Recipe, variants
from vitok.data.latents import build
from vitok.data.latents.encode import LatentEncoder
from vitok.data.latents.loader import LatentBatch, LatentSource
from vitok.models.tokenizer import Tokenizer

SIZE, VIEWS = 32, Latents(crops=6, smallest_crop=0.5)
CUT = {"SHARD_VIEWS": 16, "BATCH": 4, "GROUP_ROWS": 5}  # several shards, groups and batches of few photographs


@contextmanager
def cut() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CUT.items():
            patch.setattr(build, name, value)
        yield


def encoder(seed: int = 0, variant: str = "N-N/8", channels: int = 4, precision: Any = "fp32", **options: int) -> LatentEncoder:
    tokenizer = variants.tokenizer(variant, channels=channels, size=SIZE, **options)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LatentEncoder.of(Recipe(tokenizer=tokenizer, precision=precision), Tokenizer(tokenizer).state_dict())


def whole(source: LatentSource, start: int, steps: int, **options: int) -> list[LatentBatch]:
    return list(source.batches(**{"seed": 3, "batch_size": 8, "start": start, "steps": steps} | options))
