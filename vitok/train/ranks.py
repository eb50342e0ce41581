"""Ranks: which process this is among those that train one model, and what they tell each other."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Place:
    """The rank of this process among those that train one model, and its device."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def all_gather(value: Any, place: Place) -> list[Any]:
    """Return the values of all ranks, in their order. A collective."""
    values = [value] * place.world
    if place.world > 1:
        dist.all_gather_object(values, value)
    return values


def broadcast(value: Any, place: Place) -> Any:
    """Return rank 0's value. No rank goes on before rank 0 has come here."""
    return all_gather(value, place)[0]
