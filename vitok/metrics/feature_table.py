"""Features of single samples, for the metrics that compare sample with sample: KID, precision and recall."""

import numpy as np
from torch import Tensor


class FeatureTable:
    """The features (D,) of the samples `wanted` out of `count`, in a table of that many rows. The tables of parts of a set merge."""

    def __init__(self, count: int, wanted: np.ndarray, width: int) -> None:
        self.slot = np.full(count, -1, np.int64)
        self.slot[wanted] = np.arange(len(wanted))
        self.rows = np.zeros((len(wanted), width), np.float32)
        self.filled = np.zeros(len(wanted), bool)

    def add(self, numbers: np.ndarray, features: Tensor) -> None:
        """Add features (B, D) of the samples with these numbers; those that are not wanted are ignored."""
        slots = self.slot[numbers]
        chosen = slots >= 0
        self.rows[slots[chosen]] = features.detach().cpu().float().numpy()[chosen]
        self.filled[slots[chosen]] = True

    def merge(self, other: "FeatureTable") -> None:
        """Add the features of another part of the set."""
        self.rows[other.filled] = other.rows[other.filled]
        self.filled |= other.filled

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the features (n, D) of those of these samples that were added; unusable samples never are."""
        slots = self.slot[numbers]
        return self.rows[slots[self.filled[slots]]]
