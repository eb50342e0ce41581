"""KID (Binkowski et al. 2018): the unbiased squared maximum mean discrepancy under (x . y / d + 1)^3, over random subsets."""

from typing import NamedTuple

import numpy as np

from vitok.metrics.feature_table import FeatureTable

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020  # torch-fidelity's


class KernelDistance(NamedTuple):
    """A kernel distance: mean and standard deviation over the subsets."""

    mean: float
    deviation: float  # over the subsets


def draw_subsets(outputs: int, references: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the sample numbers of each subset, of outputs and of references: the ones that torch-fidelity draws."""
    draw = np.random.RandomState(SEED)
    return [(draw.choice(outputs, SUBSET_SIZE, replace=False), draw.choice(references, SUBSET_SIZE, replace=False)) for _ in range(SUBSETS)]


def kernel_distance(outputs: FeatureTable, references: FeatureTable, drawn: list[tuple[np.ndarray, np.ndarray]]) -> KernelDistance:
    """Return the kernel distance: mean and deviation over the drawn subsets."""
    values = [_discrepancy(outputs.of(mine), references.of(theirs)) for mine, theirs in drawn]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy of features (m, D) and (n, D)."""
    within_x, within_y, between = (_kernel(a, b) for a, b in ((x, x), (y, y), (x, y)))
    m, n = len(x), len(y)
    off_diagonal = (within_x.sum() - within_x.trace()) / (m * (m - 1)) + (within_y.sum() - within_y.trace()) / (n * (n - 1))
    return float(off_diagonal - 2 * between.mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the polynomial kernel (m, n) of features (m, D) and (n, D)."""
    return ((x @ y.T).astype(np.float64) / x.shape[1] + 1) ** 3
