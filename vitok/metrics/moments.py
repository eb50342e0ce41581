"""Mean and covariance of streamed features: in float64 and constant memory, merged in any order (Chan et al. 1983)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitok.errors import VitokError

ROWS = 512  # rows that wait for one update of the covariance: a product of few rows takes as long as one of many


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of the features of a set of samples."""

    count: int  # number of samples; 0: unknown, for statistics of other programs
    mean: Tensor  # (D,) float64
    covariance: Tensor  # (D, D) float64, divided by count - 1


class Moments:
    """Accumulator of the mean and the covariance of features (B, D).

    Accumulators of parts of a set merge; their order changes the rounding alone.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self.scatter = torch.zeros(0, 0, dtype=torch.float64)  # sum of (x - mean) (x - mean)^T
        self.waiting: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        """Add features (B, D)."""
        self.waiting.append(features.detach().cpu())
        if sum(map(len, self.waiting)) >= ROWS:
            self._settle()

    def merge(self, other: "Moments") -> None:
        """Add the features of another part of the set."""
        self._settle()
        other._settle()
        self._join(other.count, other.mean, other.scatter)

    def gaussian(self) -> Gaussian:
        """Return mean and covariance. Raises `VitokError` for fewer than two samples."""
        self._settle()
        if self.count < 2:
            raise VitokError(f"{self.count} sample(s): a covariance takes two at least")
        return Gaussian(self.count, self.mean, self.scatter / (self.count - 1))

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, which `load` restores."""
        self._settle()
        return {"count": np.array(self.count), "mean": self.mean.numpy(), "scatter": self.scatter.numpy()}

    def load(self, what: str, array: np.ndarray) -> None:
        """Restore one array of the state: "count", "mean" or "scatter"."""
        setattr(self, what, int(array) if what == "count" else torch.from_numpy(array))

    def _settle(self) -> None:
        """Add the features that wait to mean and scatter."""
        if self.waiting:
            rows = torch.cat(self.waiting).double()
            self.waiting = []
            mean = rows.mean(0)
            centred = rows - mean
            self._join(len(rows), mean, centred.T @ centred)

    def _join(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        """Merge count, mean and scatter of other features."""
        if not self.count:
            self.count, self.mean, self.scatter = count, mean.clone(), scatter.clone()
        elif count:
            total, shift = self.count + count, mean - self.mean
            self.scatter += scatter
            self.scatter.addr_(shift, shift, alpha=self.count * count / total)
            self.mean = self.mean + shift * (count / total)
            self.count = total
