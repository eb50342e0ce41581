"""Lines of a metric in the logarithm of a column, above all of E, with intervals from resampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.analysis.fits.cross_validation import Unseen, left_out, steps, unseen
from vitok.analysis.rows import Row
from vitok.errors import VitokError

RESAMPLES = 2000
NUMBERS = {3: "three", 4: "four"}
Interval = tuple[float, float]


@dataclass(frozen=True)
class Fit:
    """metric = intercept + slope * log2(column). Intervals are 95 %, by bootstrap over cells."""

    metric: str
    along: str  # the column
    cells: int
    measured: Interval  # the smallest and the largest value of the column
    slope: float  # the metric's change for twice the floats, or whatever the column counts
    intercept: float
    pearson_r: float
    spearman_rho: float
    slope_interval: Interval
    pearson_r_interval: Interval
    spearman_rho_interval: Interval
    lines: tuple[tuple[float, float], ...]  # (slope, intercept) of each resample, for the band
    unseen: Unseen
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        return f"Pearson r = {self.pearson_r:.3f}"

    def predict(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The line and its 95 % band at these values of the column."""
        x = np.log2(column)
        draws = np.array([slope * x + intercept for slope, intercept in self.lines])
        low, high = np.percentile(draws, (2.5, 97.5), axis=0)
        return self.slope * x + self.intercept, low, high

    def json(self) -> dict[str, Any]:
        skip = ("lines", "metric", "unseen")
        return {name: value for name, value in vars(self).items() if name not in skip} | self.unseen.json()


@dataclass(frozen=True)
class Points:
    """What is fitted: the cells that have a finite value of the metric and a positive one of the column."""

    x: np.ndarray  # (cells,) of the column
    y: np.ndarray  # (cells,) of the metric
    notes: tuple[str, ...]  # of what is left out

    @property
    def measured(self) -> Interval:
        return float(self.x.min()), float(self.x.max())


def points(rows: list[Row], metric: str, along: str, least: int, fitted: str) -> Points:
    """Raises `VitokError` with fewer than `least` values of the column; `fitted` says of what."""
    having = [(float(row[along]), float(row[metric])) for row in rows if metric in row and along in row]
    usable = [(x, y) for x, y in having if 0 < x < np.inf and np.isfinite(y)]
    x, y = np.array(usable).reshape(-1, 2).T
    count, apart = len(set(steps(x).tolist())), len(set(x.tolist()))
    if count < least:
        near = f" ({apart} within 5 % of each other)" if apart > count else ""
        raise VitokError(f"{fitted} needs {NUMBERS[least]} values of {along}, there are {count}{near}")
    bad = len(having) - len(usable)
    return Points(x, y, (f"{metric} or {along} is no number to fit in {bad} of {len(having)} cells, which are left out",) if bad else ())


def log_linear(rows: list[Row], metric: str, along: str = "E") -> Fit:
    """Least squares of a metric on log2 of a column: of E (Figure 3), "gmacs", "encoder_params_m". Raises `VitokError` with fewer than
    three values of the column, or one of the metric.
    """
    from scipy.stats import rankdata

    found = points(rows, metric, along, 3, f"a fit of {metric} on log2 {along}")
    x, y = np.log2(found.x), found.y
    if np.ptp(y) == 0:
        raise VitokError(f"{metric} is {y[0]:g} in every cell: nothing to correlate with log2 {along}")

    def measures(pick: np.ndarray) -> np.ndarray:
        """(slope, intercept, Pearson's r, Spearman's rho) of each row of an index array (resamples, cells)."""
        a, b = x[pick], y[pick]
        slope = _covariance(a, b) / _covariance(a, a)
        spearman = _correlation(rankdata(a, axis=1), rankdata(b, axis=1))
        return np.stack([slope, b.mean(1) - slope * a.mean(1), _correlation(a, b), spearman])

    def predict(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
        return np.polyval(np.polyfit(x[kept], y[kept], 1), x[out])

    slope, intercept, pearson, spearman = measures(np.arange(len(x))[None])[:, 0].tolist()
    step = steps(found.x)
    picks = resamples(len(x), lambda pick: np.ptp(step[pick]) > 0 and np.ptp(y[pick]) > 0)
    slopes, intercepts, pearsons, spearmans = measures(picks)
    return Fit(
        metric=metric, along=along, cells=len(x), measured=found.measured,
        slope=slope, intercept=intercept, pearson_r=pearson, spearman_rho=spearman,
        slope_interval=interval(slopes), pearson_r_interval=interval(pearsons), spearman_rho_interval=interval(spearmans),
        lines=tuple(zip(slopes.tolist(), intercepts.tolist(), strict=True)),
        unseen=unseen([left_out(found.x, y, 3, predict)], 3, along), notes=found.notes,
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
