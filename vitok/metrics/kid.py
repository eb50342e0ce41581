"""KID (Binkowski et al. 2018): the squared maximum mean discrepancy under (x . y / d + 1)^3, unbiased, over random subsets."""

from typing import NamedTuple

import numpy as np

from vitok.metrics.feature_rows import Rows

SUBSETS, SIZE, SEED = 100, 1000, 2020  # torch-fidelity's


class Distance(NamedTuple):
    mean: float
    deviation: float  # over the subsets


def subsets(outputs: int, references: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The numbers of the samples of each subset, of either set; those that torch-fidelity draws."""
    draw = np.random.RandomState(SEED)
    return [(draw.choice(outputs, SIZE, replace=False), draw.choice(references, SIZE, replace=False)) for _ in range(SUBSETS)]


def kernel_distance(outputs: Rows, references: Rows, drawn: list[tuple[np.ndarray, np.ndarray]]) -> Distance:
    values = [_discrepancy(outputs.of(mine), references.of(theirs)) for mine, theirs in drawn]
    return Distance(float(np.mean(values)), float(np.std(values)))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    within_x, within_y, between = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
    m, n = len(x), len(y)
    off_diagonal = (within_x.sum() - within_x.trace()) / (m * (m - 1)) + (within_y.sum() - within_y.trace()) / (n * (n - 1))
    return float(off_diagonal - 2 * between.mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x @ y.T).astype(np.float64) / x.shape[1] + 1) ** 3
