"""Features that are kept one by one, for the metrics that compare samples with samples: KID, precision and recall."""

import numpy as np
from torch import Tensor


class Rows:
    """Of `count` samples, those in `wanted`: at most so many rows are ever in memory. Parts of a set merge."""

    def __init__(self, count: int, wanted: np.ndarray, width: int) -> None:
        self.slot = np.full(count, -1, np.int64)
        self.slot[wanted] = np.arange(len(wanted))
        self.rows = np.zeros((len(wanted), width), np.float32)
        self.filled = np.zeros(len(wanted), bool)

    def add(self, numbers: np.ndarray, features: Tensor) -> None:
        slots = self.slot[numbers]
        chosen = slots >= 0
        self.rows[slots[chosen]] = features.detach().cpu().float().numpy()[chosen]
        self.filled[slots[chosen]] = True

    def merge(self, other: "Rows") -> None:
        self.rows[other.filled] = other.rows[other.filled]
        self.filled |= other.filled

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """(n, width) of those of these samples that came; an unusable sample never does."""
        slots = self.slot[numbers]
        return self.rows[slots[self.filled[slots]]]
