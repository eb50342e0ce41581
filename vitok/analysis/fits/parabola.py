"""Parabolas in log2 E for each patch size, and their optima (Figure 4).

Cells are few, often one seed at each E, so that nothing is resampled: all intervals come from least squares and Student's t with cells - 3
degrees of freedom. They are exact if the cells scatter evenly about a parabola. In simulations of 5 sizes with one to three seeds they hold
the optimum as often as they say; a bootstrap over cells did in 90 % to 93 %. Three cells leave no degree of freedom and so no interval; a
note says so.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.analysis.fits.bootstrap import RESAMPLES, Interval
from vitok.analysis.fits.cross_validation import LeaveOneOut, PredictionErrors, leave_one_out_errors, summarise_errors
from vitok.analysis.fits.quantity import fitted_quantity, fitted_rows, is_log_scaled
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS


@dataclass(frozen=True)
class Parabola:
    """A parabola of one patch size: quantity = a + b x + c x^2, where x = log2 E - `middle`.

    The quantity is the metric or its natural logarithm (see `fits.quantity`).
    """

    cells: int
    tokens: float  # L: E for each channel
    measured: Interval  # the smallest and the largest E
    middle: float
    coefficients: tuple[float, float, float]  # a, b, c
    deviation: float | None  # standard deviation of the residuals, in the quantity; None: no degree of freedom is left
    inverse: tuple[tuple[float, ...], ...]  # covariance of the coefficients, divided by the squared deviation
    optimum: float | None  # E at the vertex; None: the parabola opens the wrong way
    optimum_interval: Interval | None  # 95 %; None: not bounded
    inside: float | None  # share of draws of the coefficients with an optimum strictly inside the measured range
    notes: tuple[str, ...]

    def predict(self, floats: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the quantity and the ends of its 95 % band at these E. The band is NaN if no degree of freedom is left."""
        design = np.vander(np.log2(floats) - self.middle, 3, increasing=True)
        curve, band = design @ np.array(self.coefficients), np.full(len(design), np.nan)
        if self.deviation is not None:
            band = t_quantile(self.cells) * self.deviation * np.sqrt(np.einsum("ni,ij,nj->n", design, np.array(self.inverse), design))
        return curve, curve - band, curve + band

    def json(self) -> dict[str, Any]:
        """Return the parabola as a JSON object, with the coefficients of 1, log2 E and its square."""
        a, b, c = self.coefficients
        powers = (a - b * self.middle + c * self.middle**2, b - 2 * c * self.middle, c)
        return {
            "cells": self.cells, "measured": self.measured, "coefficients": powers,  # powers 0, 1, 2 of log2 E
            "deviation": self.deviation, "optimum": self.optimum, "optimum_interval": self.optimum_interval,
            "channels": self.channels(self.optimum), "inside": self.inside, "notes": list(self.notes),
        }  # fmt: skip

    def channels(self, floats: float | None) -> float | None:
        """Return the channels c, not always whole, that give this E at this patch size."""
        return None if floats is None else floats / self.tokens


@dataclass(frozen=True)
class Parabolas:
    """The parabolas of one metric, by patch size."""

    metric: str
    parabolas: dict[int, Parabola]
    leave_one_out: LeaveOneOut  # over the cells of all patch sizes, each predicted from its own patch size
    notes: tuple[str, ...]  # on cells and patch sizes that are left out

    def predict(self, p: int, floats: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the curve of a patch size and the ends of its 95 % band at these E, in the metric's unit. The band is NaN if there is
        none.
        """
        curve, low, high = self.parabolas[p].predict(floats)
        with np.errstate(over="ignore"):
            return (np.exp(curve), np.exp(low), np.exp(high)) if is_log_scaled(self.metric) else (curve, low, high)

    def json(self) -> dict[str, Any]:
        """Return the parabolas as a JSON object."""
        return {
            "quantity": fitted_quantity(self.metric), "patch_sizes": {str(p): one.json() for p, one in self.parabolas.items()},
            "notes": list(self.notes), **self.leave_one_out.json(),
        }  # fmt: skip


def parabolas(rows: list[Row], metric: str) -> Parabolas:
    """Fit a parabola in log2 E for each patch size: to log(metric) for Fréchet and kernel distances, else to the metric.

    A patch size needs three values of E. Raises `VitokError` if none has them.
    """
    rows, dropped = fitted_rows(rows, metric)
    notes, fitted, sizes, errors = list(dropped), dict[int, Parabola](), dict[int, int](), list[PredictionErrors]()
    for p in sorted({row["p"] for row in rows}):
        group = [row for row in rows if row["p"] == p]
        sizes[p] = len({row["E"] for row in group})
        if sizes[p] < 3:
            notes.append(f"p = {p} is left out: a parabola needs three values of E, there are {sizes[p]}")
        else:
            fitted[p] = _parabola(group, metric)
            errors.append(_prediction_errors(group, metric))
    if not fitted:
        most = max(sizes.values(), default=0)
        raise VitokError(f"a parabola of {fitted_quantity(metric)} in log2 E needs three values of E in a patch size, there are {most}")
    return Parabolas(metric, fitted, summarise_errors(errors, 3, "E"), tuple(notes))


def t_quantile(cells: int) -> float:
    """Return the 97.5 % quantile of Student's t with the degrees of freedom that a parabola through `cells` cells leaves."""
    from scipy.stats import t

    return float(t.ppf(0.975, cells - 3))


def _parabola(rows: list[Row], metric: str) -> Parabola:
    """Fit one patch size by least squares."""
    x, y = np.log2([float(row["E"]) for row in rows]), np.array([float(row[metric]) for row in rows])
    middle, freedom = float(x.mean()), len(x) - 3
    design = np.vander(x - middle, 3, increasing=True)
    coefficients = np.linalg.lstsq(design, y)[0]
    inverse = np.linalg.inv(design.T @ design)
    deviation = float(np.linalg.norm(y - design @ coefficients) / np.sqrt(freedom)) if freedom else None
    opens = -1 if METRICS[metric].higher else 1
    optimum = _vertex(coefficients, middle, opens)
    bounds = inside = None
    if deviation is not None:
        inside = _share_inside(coefficients, deviation * np.linalg.cholesky(inverse), freedom, (x.min() - middle, x.max() - middle), opens)
        if optimum is not None:
            bounds = _fieller(coefficients, deviation**2 * inverse, t_quantile(len(x)), middle)
    measured = (float(min(row["E"] for row in rows)), float(max(row["E"] for row in rows)))
    return Parabola(
        cells=len(x), tokens=rows[0]["E"] / rows[0]["c"], measured=measured, middle=middle, coefficients=tuple(coefficients.tolist()),
        deviation=deviation, inverse=tuple(map(tuple, inverse.tolist())), optimum=optimum, optimum_interval=bounds, inside=inside,
        notes=tuple(_parabola_notes(optimum, bounds, measured, freedom, opens)),
    )  # fmt: skip


def _prediction_errors(rows: list[Row], metric: str) -> PredictionErrors:
    """Return the leave-one-out errors of one patch size, in the metric's unit."""
    floats, y = np.array([float(row["E"]) for row in rows]), np.array([float(row[metric]) for row in rows])
    x = np.log2(floats) - np.log2(floats).mean()

    def own(values: np.ndarray) -> np.ndarray:
        return np.exp(values) if is_log_scaled(metric) else values

    return leave_one_out_errors(floats, own(y), 3, lambda kept, out: own(np.polyval(np.polyfit(x[kept], y[kept], 2), x[out])))


def _vertex(coefficients: np.ndarray, middle: float, opens: int) -> float | None:
    """Return the E at the vertex; None if the parabola opens the wrong way."""
    _, slope, curvature = coefficients.tolist()
    if curvature * opens <= 0:
        return None
    return _power_of_two(middle - slope / (2 * curvature))


def _fieller(coefficients: np.ndarray, covariance: np.ndarray, t: float, middle: float) -> Interval | None:
    """Return the range of E at which the derivative is not significantly different from zero (Fieller's theorem); None if it is not
    bounded.

    This interval is exact for the ratio of coefficients that the vertex is.
    """
    _, b, c = coefficients
    square = 4 * (c**2 - t**2 * covariance[2, 2])
    if square <= 0:  # the curvature may be zero
        return None
    linear, constant = 4 * (b * c - t**2 * covariance[1, 2]), b**2 - t**2 * covariance[1, 1]
    half = np.sqrt(max(linear**2 - 4 * square * constant, 0))
    low, high = (_power_of_two(middle + (-linear + sign * half) / (2 * square)) for sign in (-1, 1))
    return None if low is None or high is None else (low, high)


def _share_inside(coefficients: np.ndarray, root: np.ndarray, freedom: int, ends: Interval, opens: int) -> float:
    """Return the share of draws from the coefficients' multivariate t whose optimum lies strictly between `ends`."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((RESAMPLES, 3)) @ root.T / np.sqrt(rng.chisquare(freedom, (RESAMPLES, 1)) / freedom)
    _, b, c = (coefficients + draws).T * opens
    return float(np.mean((b + 2 * c * ends[0] < 0) & (b + 2 * c * ends[1] > 0)))


def _parabola_notes(optimum: float | None, bounds: Interval | None, measured: Interval, freedom: int, opens: int) -> Iterator[str]:
    """Yield notes on an optimum that is missing, outside the measured range, or without an interval."""
    if not freedom:
        yield "three cells, which a parabola meets whatever they are: nothing tells how sure it is"
    if optimum is None:
        yield f"no optimum: the trend {'has no minimum' if opens > 0 else 'has no maximum'}"
        return
    if not measured[0] < optimum < measured[1]:
        yield f"the optimum lies outside the measured E of {measured[0]:g} to {measured[1]:g}"
    if freedom and bounds is None:
        yield "the curvature is not told from none, so the optimum's 95 % interval is not bounded"


def _power_of_two(x: float) -> float | None:
    """Return 2^x, or None if it overflows."""
    return 2.0 ** float(x) if x < 1023 else None
