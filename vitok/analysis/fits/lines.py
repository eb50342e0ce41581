"""Lines of a metric in the logarithm of a column, such as E, with bootstrap intervals."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.analysis.fits.bootstrap import Interval, bootstrap_indices, percentile_interval
from vitok.analysis.fits.cross_validation import LeaveOneOut, leave_one_out_errors, summarise_errors, value_groups
from vitok.analysis.rows import Row
from vitok.errors import VitokError

NUMBER_WORDS = {3: "three", 4: "four"}


@dataclass(frozen=True)
class LogLinearFit:
    """metric = intercept + slope * log2(column). Intervals are 95 %, by bootstrap over cells."""

    metric: str
    along: str  # the column
    cells: int
    measured: Interval  # the smallest and the largest value of the column
    slope: float  # the metric's change for each doubling of the column
    intercept: float
    pearson_r: float
    spearman_rho: float
    slope_interval: Interval
    pearson_r_interval: Interval
    spearman_rho_interval: Interval
    resampled_lines: tuple[tuple[float, float], ...]  # (slope, intercept) of each resample, for the band
    leave_one_out: LeaveOneOut
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The correlation in one line, as the title of a panel."""
        return f"Pearson r = {self.pearson_r:.3f}"

    def predict(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the line and the ends of its 95 % band at these values of the column."""
        x = np.log2(column)
        draws = np.array([slope * x + intercept for slope, intercept in self.resampled_lines])
        low, high = np.percentile(draws, (2.5, 97.5), axis=0)
        return self.slope * x + self.intercept, low, high

    def json(self) -> dict[str, Any]:
        """Return the fit as a JSON object, without its resampled lines."""
        skip = ("resampled_lines", "metric", "leave_one_out")
        return {name: value for name, value in vars(self).items() if name not in skip} | self.leave_one_out.json()


@dataclass(frozen=True)
class FittedCells:
    """Cells that a fit can use: those with a finite value of the metric and a positive one of the column."""

    x: np.ndarray  # (cells,) values of the column
    y: np.ndarray  # (cells,) values of the metric
    notes: tuple[str, ...]  # on cells that are left out

    @property
    def measured(self) -> Interval:
        """The smallest and the largest value of the column."""
        return float(self.x.min()), float(self.x.max())


def fitted_cells(rows: list[Row], metric: str, along: str, least: int, fitted: str) -> FittedCells:
    """Return the cells that a fit can use. Raises `VitokError` with fewer than `least` values of the column; `fitted` names the fit."""
    having = [(float(row[along]), float(row[metric])) for row in rows if metric in row and along in row]
    usable = [(x, y) for x, y in having if 0 < x < np.inf and np.isfinite(y)]
    x, y = np.array(usable).reshape(-1, 2).T
    count, apart = len(set(value_groups(x).tolist())), len(set(x.tolist()))
    if count < least:
        near = f" ({apart} within 5 % of each other)" if apart > count else ""
        raise VitokError(f"{fitted} needs {NUMBER_WORDS[least]} values of {along}, there are {count}{near}")
    bad = len(having) - len(usable)
    return FittedCells(
        x, y, (f"{metric} or {along} is no number to fit in {bad} of {len(having)} cells, which are left out",) if bad else ()
    )


def log_linear(rows: list[Row], metric: str, along: str = "E") -> LogLinearFit:
    """Fit a line to a metric on log2 of a column by least squares: of E (Figure 3), "gmacs" or "encoder_params_m".

    Raises `VitokError` with fewer than three values of the column, or with one value of the metric.
    """
    from scipy.stats import rankdata

    found = fitted_cells(rows, metric, along, 3, f"a fit of {metric} on log2 {along}")
    x, y = np.log2(found.x), found.y
    if np.ptp(y) == 0:
        raise VitokError(f"{metric} is {y[0]:g} in every cell: nothing to correlate with log2 {along}")

    def measures(pick: np.ndarray) -> np.ndarray:
        """Return (slope, intercept, Pearson's r, Spearman's rho) of each row of an index array (resamples, cells)."""
        a, b = x[pick], y[pick]
        slope = _covariance(a, b) / _covariance(a, a)
        spearman = _correlation(rankdata(a, axis=1), rankdata(b, axis=1))
        return np.stack([slope, b.mean(1) - slope * a.mean(1), _correlation(a, b), spearman])

    def predict(kept: np.ndarray, out: np.ndarray) -> np.ndarray:
        return np.polyval(np.polyfit(x[kept], y[kept], 1), x[out])

    slope, intercept, pearson, spearman = measures(np.arange(len(x))[None])[:, 0].tolist()
    step = value_groups(found.x)
    picks = bootstrap_indices(len(x), lambda pick: np.ptp(step[pick]) > 0 and np.ptp(y[pick]) > 0)
    slopes, intercepts, pearsons, spearmans = measures(picks)
    return LogLinearFit(
        metric=metric, along=along, cells=len(x), measured=found.measured,
        slope=slope, intercept=intercept, pearson_r=pearson, spearman_rho=spearman,
        slope_interval=percentile_interval(slopes), pearson_r_interval=percentile_interval(pearsons),
        spearman_rho_interval=percentile_interval(spearmans),
        resampled_lines=tuple(zip(slopes.tolist(), intercepts.tolist(), strict=True)),
        leave_one_out=summarise_errors([leave_one_out_errors(found.x, y, 3, predict)], 3, along), notes=found.notes,
    )  # fmt: skip


def _covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the covariance of each row of two arrays (resamples, cells)."""
    return ((a - a.mean(1, keepdims=True)) * (b - b.mean(1, keepdims=True))).mean(1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return Pearson's r of each row of two arrays (resamples, cells)."""
    return _covariance(a, b) / np.sqrt(_covariance(a, a) * _covariance(b, b))
