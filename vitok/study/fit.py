"""Fits of a metric on the bottleneck's size, with intervals from resampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.errors import VitokError
from vitok.study.study import Row

RESAMPLES = 2000
Interval = tuple[float, float]


@dataclass(frozen=True)
class Fit:
    """metric = intercept + slope * log2(E). Intervals are 95 %, by bootstrap over cells."""

    metric: str
    cells: int
    slope: float  # the metric's change for twice the floats
    intercept: float
    pearson_r: float
    spearman_rho: float
    slope_interval: Interval
    pearson_r_interval: Interval
    spearman_rho_interval: Interval
    lines: tuple[tuple[float, float], ...]  # (slope, intercept) of each resample, for the band

    def predict(self, floats: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The line and its 95 % band at these E."""
        x = np.log2(floats)
        draws = np.array([slope * x + intercept for slope, intercept in self.lines])
        low, high = np.percentile(draws, (2.5, 97.5), axis=0)
        return self.slope * x + self.intercept, low, high

    def json(self) -> dict[str, Any]:
        skip = ("lines", "metric")
        return {name: value for name, value in vars(self).items() if name not in skip}


def log_linear(rows: list[Row], metric: str) -> Fit:
    """Least squares of a metric on log2 E (Figure 3). Raises `VitokError` with fewer than three values of E, or one of the metric."""
    from scipy.stats import rankdata

    rows = [row for row in rows if metric in row]
    x, y = np.log2([float(row["E"]) for row in rows]), np.array([float(row[metric]) for row in rows])
    if len(set(x.tolist())) < 3:
        raise VitokError(f"a fit of {metric} on log2 E needs three values of E, there are {len(set(x.tolist()))}")
    if np.ptp(y) == 0:
        raise VitokError(f"{metric} is {y[0]:g} in every cell: nothing to correlate with log2 E")

    def measures(pick: np.ndarray) -> np.ndarray:
        """(slope, intercept, Pearson's r, Spearman's rho) of each row of an index array (resamples, cells)."""
        a, b = x[pick], y[pick]
        slope = _covariance(a, b) / _covariance(a, a)
        spearman = _correlation(rankdata(a, axis=1), rankdata(b, axis=1))
        return np.stack([slope, b.mean(1) - slope * a.mean(1), _correlation(a, b), spearman])

    slope, intercept, pearson, spearman = measures(np.arange(len(x))[None])[:, 0].tolist()
    slopes, intercepts, pearsons, spearmans = measures(resamples(len(x), lambda pick: np.ptp(x[pick]) > 0 and np.ptp(y[pick]) > 0))
    return Fit(
        metric=metric, cells=len(rows), slope=slope, intercept=intercept, pearson_r=pearson, spearman_rho=spearman,
        slope_interval=interval(slopes), pearson_r_interval=interval(pearsons), spearman_rho_interval=interval(spearmans),
        lines=tuple(zip(slopes.tolist(), intercepts.tolist(), strict=True)),
    )  # fmt: skip


def _covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a - a.mean(1, keepdims=True)) * (b - b.mean(1, keepdims=True))).mean(1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _covariance(a, b) / np.sqrt(_covariance(a, a) * _covariance(b, b))


def resamples(count: int, usable: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Bootstrap index sets (resamples, count), always the same; sets on which nothing can be fitted are drawn again."""
    rng = np.random.default_rng(0)
    found: list[np.ndarray] = []
    while len(found) < RESAMPLES:
        pick = rng.integers(0, count, count)
        if usable(pick):
            found.append(pick)
    return np.array(found)


def interval(draws: Any) -> Interval:
    low, high = np.percentile(np.asarray(draws, dtype=float), (2.5, 97.5))
    return float(low), float(high)
