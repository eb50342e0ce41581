"""Power laws with an irreducible term: the gain that more floats, MACs or parameters can still bring, and the limit.

A power law falls to a limit, so it is fitted to a quantity that falls: to a metric of which less is better; to the mean square error behind
PSNR, which is its logarithm; to the distance from the upper bound of SSIM, precision and recall (1) and of Inception Scores (the number of
classes).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.analysis.fits.bootstrap import Interval, bootstrap_indices, percentile_interval
from vitok.analysis.fits.cross_validation import LeaveOneOut, leave_one_out_errors, summarise_errors, value_groups
from vitok.analysis.fits.lines import fitted_cells
from vitok.analysis.fits.quantity import is_log_scaled
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS

EXPONENT_BOUNDS = (0.01, 5.0)  # below, the curve is a constant over any measured range; above, a step
GRID_POINTS, GOLDEN, SECTIONS = 24, (5**0.5 - 1) / 2, 36  # together they leave 3e-8 of the two grid steps about the best exponent
IMAGENET_CLASSES = 1000  # an Inception Score is at most the number of classes


@dataclass(frozen=True)
class PowerLaw:
    """The fit quantity = irreducible + scale * column^(-exponent), each of the three at least zero. Intervals are 95 %, by bootstrap over
    cells.
    """

    metric: str
    along: str  # the column
    quantity: str  # name of the fitted quantity
    cells: int
    measured: Interval  # the smallest and the largest value of the column
    irreducible: float  # in the quantity's unit
    scale: float
    exponent: float
    irreducible_interval: Interval
    scale_interval: Interval
    exponent_interval: Interval
    draws: tuple[tuple[float, float, float], ...]  # (irreducible, scale, exponent) of each resample, for the band
    leave_one_out: LeaveOneOut
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The exponent with its interval in one line, as the title of a panel."""
        return f"power law, exponent {self.exponent:.2f} ({self.exponent_interval[0]:.2f} to {self.exponent_interval[1]:.2f})"

    @property
    def limit(self) -> float | None:
        """The metric's limit as the column grows without bound; None if there is none (PSNR without an irreducible error)."""
        return _number(_metric_of_quantity(self.metric, self.irreducible))

    @property
    def limit_interval(self) -> tuple[float | None, float | None]:
        """The 95 % interval of the limit; None for an end that is not bounded."""
        low, high = sorted(float(_metric_of_quantity(self.metric, bound)) for bound in self.irreducible_interval)
        return _number(low), _number(high)

    def predict(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the curve and the ends of its 95 % band at these values of the column, in the metric's unit."""
        irreducible, scale, exponent = np.array(self.draws).T[..., None]
        low, high = np.percentile(_metric_of_quantity(self.metric, irreducible + scale * column**-exponent), (2.5, 97.5), axis=0)
        return _metric_of_quantity(self.metric, self.irreducible + self.scale * column**-self.exponent), low, high

    def json(self) -> dict[str, Any]:
        """Return the fit as a JSON object, without its resampled coefficients."""
        skip = ("draws", "metric", "leave_one_out")
        found = {name: value for name, value in vars(self).items() if name not in skip}
        return found | {"limit": self.limit, "limit_interval": self.limit_interval} | self.leave_one_out.json()


def power_law(rows: list[Row], metric: str, along: str = "E") -> PowerLaw:
    """Fit a power law by least squares: of relative errors for PSNR and distances, which scatter in proportion, else of absolute errors.

    In simulations of 5 to 18 cells with 2 % and 5 % of scatter the intervals of the exponent hold it in 86 % to 97 %, the band the curve in
    82 % to 94 %: a bootstrap over few cells is a little narrow. Raises `VitokError` with fewer than four values of the column, and if the
    metric does not improve along it.
    """
    usable = [row for row in rows if not (is_log_scaled(metric) and row.get(metric, 1) <= 0)]
    found = fitted_cells(usable, metric, along, 4, f"a power law of {metric} in {along}")
    x, y = found.x, _decreasing_quantity(metric, found.y)
    weights = 1 / y**2 if _errors_are_relative(metric) else np.ones_like(y)
    irreducible, scale, exponent = _solve(x, y, weights[None])[:, 0].tolist()
    if scale == 0:
        raise VitokError(f"{metric} does not improve along {along}: there is no power law in it")

    step = value_groups(x)
    others = _solve(x, y, weights * (step != np.arange(step.max() + 1)[:, None])).T  # one fit without each value of the column

    def predict(_: np.ndarray, out: np.ndarray) -> np.ndarray:
        a, s, k = others[step[out][0]]
        return _metric_of_quantity(metric, a + s * x[out] ** -k)

    picks = bootstrap_indices(len(x), lambda pick: len(set(step[pick].tolist())) > 2)  # three unknowns need three values
    counts = np.stack([np.bincount(pick, minlength=len(x)) for pick in picks])
    draws = _solve(x, y, weights * counts)
    bounds = [percentile_interval(of) for of in draws]
    bad = len(rows) - len(usable)
    dropped = [f"{metric} is not positive in {bad} of {len(rows)} cells, which are left out"] if bad else []
    return PowerLaw(
        metric=metric, along=along, quantity=_quantity_words(metric), cells=len(x), measured=found.measured,
        irreducible=irreducible, scale=scale, exponent=exponent,
        irreducible_interval=bounds[0], scale_interval=bounds[1], exponent_interval=bounds[2],
        draws=tuple(map(tuple, draws.T.tolist())), leave_one_out=summarise_errors([leave_one_out_errors(x, found.y, 4, predict)], 4, along),
        notes=(*dropped, *found.notes, *_bound_notes(exponent, bounds[0], bounds[2])),
    )  # fmt: skip


def _errors_are_relative(metric: str) -> bool:
    """Return whether the errors of the fit are relative ones."""
    return is_log_scaled(metric) or METRICS[metric].statistic == "psnr"


def _upper_bound(metric: str) -> float | None:
    """Return the highest possible value of a metric that has one, else None."""
    if not METRICS[metric].higher:
        return None
    return IMAGENET_CLASSES if METRICS[metric].statistic == "score" else 1


def _decreasing_quantity(metric: str, values: np.ndarray) -> np.ndarray:
    """Convert values of the metric to the quantity that falls to a limit."""
    if METRICS[metric].statistic == "psnr":
        return 10 ** (-values / 10)
    ceiling = _upper_bound(metric)
    return values if ceiling is None else ceiling - values


def _metric_of_quantity(metric: str, quantity: Any) -> Any:
    """Convert the quantity that falls back to the metric: the inverse of `_decreasing_quantity`."""
    if METRICS[metric].statistic == "psnr":
        with np.errstate(divide="ignore"):
            return -10 * np.log10(quantity)
    ceiling = _upper_bound(metric)
    return quantity if ceiling is None else ceiling - quantity


def _quantity_words(metric: str) -> str:
    """Return the name of the fitted quantity."""
    if METRICS[metric].statistic == "psnr":
        return f"mean square error 10^(-{metric}/10), of a peak of 1"
    ceiling = _upper_bound(metric)
    return metric if ceiling is None else f"{ceiling:g} - {metric}, the distance from its ceiling"


def _bound_notes(exponent: float, irreducible: Interval, exponents: Interval) -> list[str]:
    """Return notes on coefficients at the bounds of their ranges."""
    low, high = EXPONENT_BOUNDS
    found = list[str]()
    if irreducible[1] == 0:
        found.append("the irreducible term is at its bound of zero: nothing yet slows the fall down")
    elif irreducible[0] == 0:
        found.append("the irreducible term is not told from zero")
    for bound, meaning in ((low, "hardly a change"), (high, "a step rather than a power")):
        if np.isclose(exponent, bound):
            found.append(f"the exponent is at its bound of {bound:g}: {meaning}")
        elif np.isclose(exponents, bound).any():
            found.append(f"the exponent's interval reaches its bound of {bound:g}: {meaning}")
    return found


def _solve(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit (irreducible, scale, exponent) with each row of `weights` (fits, cells); return (3, fits).

    The method is variable projection: for a given exponent the other two are non-negative least squares; the exponent is searched for on a
    grid, then by golden sections. All rows are solved at once: scipy's `nnls` in its `minimize_scalar`, row by row, finds the same values
    ten times more slowly.
    """
    middle = np.exp(np.log(x).mean())
    base, total, sum_y = np.log(x / middle), weights.sum(1), weights @ y

    def at(log_exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the squared error, the irreducible term and the scale (of x over its middle) at one exponent for each fit."""
        z = np.exp(-np.exp(log_exponent)[:, None] * base)
        weighted = weights * z
        sum_z, sum_zz, sum_zy = weighted.sum(1), np.einsum("fc,fc->f", weighted, z), weighted @ y
        scale = np.maximum((sum_zy - sum_z * sum_y / total) / (sum_zz - sum_z**2 / total), 0)
        irreducible = (sum_y - scale * sum_z) / total
        scale, irreducible = np.where(irreducible < 0, sum_zy / sum_zz, scale), np.maximum(irreducible, 0)
        off = irreducible[:, None] + scale[:, None] * z - y
        return np.einsum("fc,fc,fc->f", weights, off, off), irreducible, scale

    grid = np.log(np.geomspace(*EXPONENT_BOUNDS, GRID_POINTS))
    best = np.argmin([at(np.full(len(weights), one))[0] for one in grid], axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, GRID_POINTS - 1)]
    for _ in range(SECTIONS):
        reach = GOLDEN * (high - low)
        left = at(high - reach)[0] <= at(low + reach)[0]
        low, high = np.where(left, low, high - reach), np.where(left, low + reach, high)
    _, irreducible, scale = at((low + high) / 2)
    exponent = np.exp((low + high) / 2)
    exponent = np.where(scale > 0, exponent, EXPONENT_BOUNDS[0])  # a constant: any exponent fits
    return np.stack([irreducible, scale * middle**exponent, exponent])


def _number(value: float) -> float | None:
    """Return the value, or None if it is not finite."""
    return float(value) if np.isfinite(value) else None
