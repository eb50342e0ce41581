"""Names and protocol of metrics that are measured on the first tokens of a nested code (A.4)."""

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vitok.metrics.registry import PREFIX_SEPARATOR

T = TypeVar("T")


@dataclass(frozen=True)
class Prefix:
    """The first `kept` of the `of` tokens of a nested code."""

    kept: int
    of: int  # L

    def __str__(self) -> str:
        return f"the first {self.kept} of {self.of} tokens"

    def names(self, values: dict[str, T]) -> dict[str, T]:
        """Rename metrics to those at this length: "rPSNR" becomes "rPSNR:32"."""
        return {f"{metric}{PREFIX_SEPARATOR}{self.kept}": value for metric, value in values.items()}

    def of_each(self, samples: Tensor) -> Tensor:
        """Return the kept tokens (B,) int64 of each sample, as a tokenizer takes them."""
        return torch.full((len(samples),), self.kept, device=samples.device)
