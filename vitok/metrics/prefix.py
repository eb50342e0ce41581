"""What is measured of the first tokens of a nested code (A.4): its name, and what its protocol says of it."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vitok.metrics.registry import MARK

T = TypeVar("T")


@dataclass(frozen=True)
class Prefix:
    kept: int
    of: int  # L

    def __str__(self) -> str:
        return f"the first {self.kept} of {self.of} tokens"

    def names(self, values: dict[str, T]) -> dict[str, T]:
        """By metric -> by "rPSNR:32"."""
        return {f"{metric}{MARK}{self.kept}": value for metric, value in values.items()}

    def of_each(self, samples: Tensor) -> Tensor:
        """(B,) int64, as a tokenizer takes it."""
        return torch.full((len(samples),), self.kept, device=samples.device)
