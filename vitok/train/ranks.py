"""Ranks: which process this is among those that train one model, and what they tell each other."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Place:
    """Which process this is among those that train one model."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def gathered(value: Any, place: Place) -> list[Any]:
    """The value of every rank."""
    values = [value] * place.world
    if place.world > 1:
        dist.all_gather_object(values, value)
    return values


def shared(value: Any, place: Place) -> Any:
    """Rank 0's value. No rank goes on before rank 0 has come here."""
    return gathered(value, place)[0]
