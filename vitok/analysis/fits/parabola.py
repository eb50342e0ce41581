"""Second-order trends: a parabola in log2 E for each patch size, and the optimum it has (Figure 4).

Cells are few, often one seed at each E, so nothing is resampled: all intervals come from least squares and Student's t with
cells - 3 degrees of freedom, exact if the cells scatter evenly about a parabola. In simulations of 5 sizes with one to three
seeds they hold the optimum as often as they say; a bootstrap over cells did in 90 % to 93 %. Three cells leave no freedom, and
no interval: that is said, not guessed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.analysis.fits.cross_validation import Errors, Unseen, left_out, unseen
from vitok.analysis.fits.log_linear import RESAMPLES, Interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS

LOGGED = ("frechet", "infinity", "kernel")  # distances: orders of magnitude lie between a good and a bad one


@dataclass(frozen=True)
class Parabola:
    """One patch size: quantity = a + b x + c x^2, x = log2 E from `middle`. The quantity is the metric or its natural logarithm."""

    cells: int
    tokens: float  # floats of the latent for each channel
    measured: Interval  # the smallest and the largest E
    middle: float
    coefficients: tuple[float, float, float]  # a, b, c
    deviation: float | None  # of the residuals, in the quantity; None: no degree of freedom is left
    inverse: tuple[tuple[float, ...], ...]  # the coefficients' covariance over the squared deviation
    optimum: float | None  # E at the vertex; None: the parabola opens the wrong way
    optimum_interval: Interval | None  # 95 %; None: not bounded
    inside: float | None  # share of draws of the coefficients that have an optimum strictly inside the measured range
    notes: tuple[str, ...]

    def predict(self, floats: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The quantity and its 95 % band at these E; the band is NaN where there is none."""
        design = np.vander(np.log2(floats) - self.middle, 3, increasing=True)
        curve, band = design @ np.array(self.coefficients), np.full(len(design), np.nan)
        if self.deviation is not None:
            band = quantile(self.cells) * self.deviation * np.sqrt(np.einsum("ni,ij,nj->n", design, np.array(self.inverse), design))
        return curve, curve - band, curve + band

    def json(self) -> dict[str, Any]:
        a, b, c = self.coefficients
        powers = (a - b * self.middle + c * self.middle**2, b - 2 * c * self.middle, c)
        return {
            "cells": self.cells, "measured": self.measured, "coefficients": powers,  # of 1, log2 E and its square
            "deviation": self.deviation, "optimum": self.optimum, "optimum_interval": self.optimum_interval,
            "channels": self.channels(self.optimum), "inside": self.inside, "notes": list(self.notes),
        }  # fmt: skip

    def channels(self, floats: float | None) -> float | None:
        """The c, not always whole, that gives this E."""
        return None if floats is None else floats / self.tokens


@dataclass(frozen=True)
class Curves:
    """The parabolas of one metric, by patch size."""

    metric: str
    parabolas: dict[int, Parabola]
    unseen: Unseen  # of all patch sizes' cells, each predicted from its own patch size, in the metric's own unit
    notes: tuple[str, ...]  # of what is left out

    def predict(self, p: int, floats: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A patch size's curve and its 95 % band at these E, in the metric's own unit; the band is NaN where there is none."""
        curve, low, high = self.parabolas[p].predict(floats)
        with np.errstate(over="ignore"):
            return (np.exp(curve), np.exp(low), np.exp(high)) if logged(self.metric) else (curve, low, high)

    def json(self) -> dict[str, Any]:
        return {
            "quantity": quantity(self.metric), "patch_sizes": {str(p): one.json() for p, one in self.parabolas.items()},
            "notes": list(self.notes), **self.unseen.json(),
        }  # fmt: skip


def logged(metric: str) -> bool:
    return METRICS[metric].statistic in LOGGED


def quantity(metric: str) -> str:
    """What is fitted, in words."""
    return f"log {metric}" if logged(metric) else metric


def quantities(rows: list[Row], metric: str) -> tuple[list[Row], tuple[str, ...]]:
    """The rows that have the metric, with what is fitted in its place; and a note if there are values that none can be fitted to."""
    having = [row for row in rows if metric in row]
    usable = [row for row in having if np.isfinite(row[metric]) and (row[metric] > 0 or not logged(metric))]
    bad, of = len(having) - len(usable), "positive number" if logged(metric) else "finite number"
    notes = (f"{metric} is no {of} in {bad} of {len(having)} cells, which are left out",) if bad else ()
    return [row | {metric: float(np.log(row[metric]) if logged(metric) else row[metric])} for row in usable], notes


def second_order(rows: list[Row], metric: str) -> Curves:
    """A parabola in log2 E for each patch size: of log(metric) for Fréchet and kernel distances, else of the metric.

    A patch size needs three values of E. Raises `VitokError` if none has them.
    """
    rows, dropped = quantities(rows, metric)
    notes, parabolas, sizes, errors = list(dropped), dict[int, Parabola](), dict[int, int](), list[Errors]()
    for p in sorted({row["p"] for row in rows}):
        group = [row for row in rows if row["p"] == p]
        sizes[p] = len({row["E"] for row in group})
        if sizes[p] < 3:
            notes.append(f"p = {p} is left out: a parabola needs three values of E, there are {sizes[p]}")
        else:
            parabolas[p] = _parabola(group, metric)
            errors.append(_errors(group, metric))
    if not parabolas:
        most = max(sizes.values(), default=0)
        raise VitokError(f"a parabola of {quantity(metric)} in log2 E needs three values of E in a patch size, there are {most}")
    return Curves(metric, parabolas, unseen(errors, 3, "E"), tuple(notes))


def quantile(cells: int) -> float:
    """Student's t, 97.5 %, of what `cells` leave to a parabola."""
    from scipy.stats import t

    return float(t.ppf(0.975, cells - 3))


def _parabola(rows: list[Row], metric: str) -> Parabola:
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
        inside = _inside(coefficients, deviation * np.linalg.cholesky(inverse), freedom, (x.min() - middle, x.max() - middle), opens)
        if optimum is not None:
            bounds = _fieller(coefficients, deviation**2 * inverse, quantile(len(x)), middle)
    measured = (float(min(row["E"] for row in rows)), float(max(row["E"] for row in rows)))
    return Parabola(
        cells=len(x), tokens=rows[0]["E"] / rows[0]["c"], measured=measured, middle=middle, coefficients=tuple(coefficients.tolist()),
        deviation=deviation, inverse=tuple(map(tuple, inverse.tolist())), optimum=optimum, optimum_interval=bounds, inside=inside,
        notes=tuple(_notes(optimum, bounds, measured, freedom, opens)),
    )  # fmt: skip


def _errors(rows: list[Row], metric: str) -> Errors:
    floats, y = np.array([float(row["E"]) for row in rows]), np.array([float(row[metric]) for row in rows])
    x = np.log2(floats) - np.log2(floats).mean()

    def own(values: np.ndarray) -> np.ndarray:
        return np.exp(values) if logged(metric) else values

    return left_out(floats, own(y), 3, lambda kept, out: own(np.polyval(np.polyfit(x[kept], y[kept], 2), x[out])))


def _vertex(coefficients: np.ndarray, middle: float, opens: int) -> float | None:
    _, slope, curvature = coefficients.tolist()
    if curvature * opens <= 0:
        return None
    return _floats(middle - slope / (2 * curvature))


def _fieller(coefficients: np.ndarray, covariance: np.ndarray, t: float, middle: float) -> Interval | None:
    """All E at which the derivative is not told from zero (Fieller): exact for the ratio that the vertex is. None: not bounded."""
    _, b, c = coefficients
    square = 4 * (c**2 - t**2 * covariance[2, 2])
    if square <= 0:  # nor is the curvature
        return None
    linear, constant = 4 * (b * c - t**2 * covariance[1, 2]), b**2 - t**2 * covariance[1, 1]
    half = np.sqrt(max(linear**2 - 4 * square * constant, 0))
    low, high = (_floats(middle + (-linear + sign * half) / (2 * square)) for sign in (-1, 1))
    return None if low is None or high is None else (low, high)


def _inside(coefficients: np.ndarray, root: np.ndarray, freedom: int, ends: Interval, opens: int) -> float:
    """The share of draws from the coefficients' multivariate t that fall, in the sense of better, into the range from both its ends."""
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((RESAMPLES, 3)) @ root.T / np.sqrt(rng.chisquare(freedom, (RESAMPLES, 1)) / freedom)
    _, b, c = (coefficients + draws).T * opens
    return float(np.mean((b + 2 * c * ends[0] < 0) & (b + 2 * c * ends[1] > 0)))


def _notes(optimum: float | None, bounds: Interval | None, measured: Interval, freedom: int, opens: int) -> Iterator[str]:
    if not freedom:
        yield "three cells, which a parabola meets whatever they are: nothing tells how sure it is"
    if optimum is None:
        yield f"no optimum: the trend {'has no minimum' if opens > 0 else 'has no maximum'}"
        return
    if not measured[0] < optimum < measured[1]:
        yield f"the optimum lies outside the measured E of {measured[0]:g} to {measured[1]:g}"
    if freedom and bounds is None:
        yield "the curvature is not told from none, so the optimum's 95 % interval is not bounded"


def _floats(x: float) -> float | None:
    """2^x; None if that is no number any more."""
    return 2.0 ** float(x) if x < 1023 else None
