"""Bootstrap over cells: index sets and percentile intervals."""

from collections.abc import Callable
from typing import Any

import numpy as np

RESAMPLES = 2000
Interval = tuple[float, float]


def bootstrap_indices(count: int, usable: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Return bootstrap index sets (resamples, count), always the same ones. Sets that are not `usable` for a fit are drawn again."""
    rng = np.random.default_rng(0)
    found: list[np.ndarray] = []
    while len(found) < RESAMPLES:
        pick = rng.integers(0, count, count)
        if usable(pick):
            found.append(pick)
    return np.array(found)


def percentile_interval(draws: Any) -> Interval:
    """Return the 2.5th and the 97.5th percentile of the draws."""
    low, high = np.percentile(np.asarray(draws, dtype=float), (2.5, 97.5))
    return float(low), float(high)
