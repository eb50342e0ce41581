"""Power laws with an irreducible term: what more floats, MACs or parameters can still bring, and what they cannot.

A power law falls to a limit, so it is fitted to what falls: to a metric of which less is better; to the mean square error behind
PSNR, which is its logarithm; to the distance from their ceiling for SSIM, precision and recall (1) and Inception Scores (the classes).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vitok.analysis.fits.cross_validation import Unseen, left_out, steps, unseen
from vitok.analysis.fits.log_linear import Interval, interval, points, resamples
from vitok.analysis.fits.parabola import logged
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS

EXPONENTS = (0.01, 5.0)  # below, no power of what is measured differs from a constant; above, it is a step
GRID, GOLDEN, SECTIONS = 24, (5**0.5 - 1) / 2, 36  # these leave 3e-8 of the two steps of the grid about the best exponent
CLASSES = 1000  # of ImageNet: no Inception Score is above their number


@dataclass(frozen=True)
class PowerLaw:
    """quantity = irreducible + scale * column^(-exponent), each of them at least zero. Intervals are 95 %, by bootstrap over cells."""

    metric: str
    along: str  # the column
    quantity: str  # what is fitted, in words
    cells: int
    measured: Interval  # the smallest and the largest value of the column
    irreducible: float  # in the quantity
    scale: float
    exponent: float
    irreducible_interval: Interval
    scale_interval: Interval
    exponent_interval: Interval
    draws: tuple[tuple[float, float, float], ...]  # (irreducible, scale, exponent) of each resample, for the band
    unseen: Unseen
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        return f"power law, exponent {self.exponent:.2f} ({self.exponent_interval[0]:.2f} to {self.exponent_interval[1]:.2f})"

    @property
    def limit(self) -> float | None:
        """What the metric comes to where the column has no end; None: any value (PSNR without an irreducible error)."""
        return _number(_metric(self.metric, self.irreducible))

    @property
    def limit_interval(self) -> tuple[float | None, float | None]:
        low, high = sorted(float(_metric(self.metric, bound)) for bound in self.irreducible_interval)
        return _number(low), _number(high)

    def predict(self, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The curve and its 95 % band at these values of the column, in the metric's own unit."""
        irreducible, scale, exponent = np.array(self.draws).T[..., None]
        low, high = np.percentile(_metric(self.metric, irreducible + scale * column**-exponent), (2.5, 97.5), axis=0)
        return _metric(self.metric, self.irreducible + self.scale * column**-self.exponent), low, high

    def json(self) -> dict[str, Any]:
        skip = ("draws", "metric", "unseen")
        found = {name: value for name, value in vars(self).items() if name not in skip}
        return found | {"limit": self.limit, "limit_interval": self.limit_interval} | self.unseen.json()


def power_law(rows: list[Row], metric: str, along: str = "E") -> PowerLaw:
    """Least squares of a power law: of relative errors for PSNR and distances, which scatter in proportion, else of plain ones.

    In simulations of 5 to 18 cells with 2 % and 5 % of scatter the intervals of the exponent hold it in 86 % to 97 %, the band the curve
    in 82 % to 94 %: a bootstrap over few cells is a little narrow. Raises `VitokError` with fewer than four values of the column, and
    if the metric does not improve along it.
    """
    usable = [row for row in rows if not (logged(metric) and row.get(metric, 1) <= 0)]
    found = points(usable, metric, along, 4, f"a power law of {metric} in {along}")
    x, y = found.x, _quantity(metric, found.y)
    weights = 1 / y**2 if _relative(metric) else np.ones_like(y)
    irreducible, scale, exponent = _solve(x, y, weights[None])[:, 0].tolist()
    if scale == 0:
        raise VitokError(f"{metric} does not improve along {along}: there is no power law in it")

    step = steps(x)
    others = _solve(x, y, weights * (step != np.arange(step.max() + 1)[:, None])).T  # without each value of the column

    def predict(_: np.ndarray, out: np.ndarray) -> np.ndarray:
        a, s, k = others[step[out][0]]
        return _metric(metric, a + s * x[out] ** -k)

    picks = resamples(len(x), lambda pick: len(set(step[pick].tolist())) > 2)  # as many as there are unknowns
    counts = np.stack([np.bincount(pick, minlength=len(x)) for pick in picks])
    draws = _solve(x, y, weights * counts)
    bounds = [interval(of) for of in draws]
    bad = len(rows) - len(usable)
    dropped = [f"{metric} is not positive in {bad} of {len(rows)} cells, which are left out"] if bad else []
    return PowerLaw(
        metric=metric, along=along, quantity=_words(metric), cells=len(x), measured=found.measured,
        irreducible=irreducible, scale=scale, exponent=exponent,
        irreducible_interval=bounds[0], scale_interval=bounds[1], exponent_interval=bounds[2],
        draws=tuple(map(tuple, draws.T.tolist())), unseen=unseen([left_out(x, found.y, 4, predict)], 4, along),
        notes=(*dropped, *found.notes, *_flags(exponent, bounds[0], bounds[2])),
    )  # fmt: skip


def _relative(metric: str) -> bool:
    return logged(metric) or METRICS[metric].statistic == "psnr"


def _ceiling(metric: str) -> float | None:
    if not METRICS[metric].higher:
        return None
    return CLASSES if METRICS[metric].statistic == "score" else 1


def _quantity(metric: str, values: np.ndarray) -> np.ndarray:
    if METRICS[metric].statistic == "psnr":
        return 10 ** (-values / 10)
    ceiling = _ceiling(metric)
    return values if ceiling is None else ceiling - values


def _metric(metric: str, quantity: Any) -> Any:
    """The inverse, in the metric's own unit."""
    if METRICS[metric].statistic == "psnr":
        with np.errstate(divide="ignore"):
            return -10 * np.log10(quantity)
    ceiling = _ceiling(metric)
    return quantity if ceiling is None else ceiling - quantity


def _words(metric: str) -> str:
    if METRICS[metric].statistic == "psnr":
        return f"mean square error 10^(-{metric}/10), of a peak of 1"
    ceiling = _ceiling(metric)
    return metric if ceiling is None else f"{ceiling:g} - {metric}, the distance from its ceiling"


def _flags(exponent: float, irreducible: Interval, exponents: Interval) -> list[str]:
    low, high = EXPONENTS
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
    """(irreducible, scale, exponent) of each row of `weights` (fits, cells), (3, fits): variable projection. For one exponent the other
    two are non-negative least squares; the exponent is searched for on a grid, then by golden sections. All rows go at once: scipy's
    `nnls` in its `minimize_scalar`, row by row, finds the same ten times more slowly.
    """
    middle = np.exp(np.log(x).mean())
    base, total, sum_y = np.log(x / middle), weights.sum(1), weights @ y

    def at(log_exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The squared error, the irreducible term and the scale (of x over its middle) at an exponent for each fit."""
        z = np.exp(-np.exp(log_exponent)[:, None] * base)
        weighted = weights * z
        sum_z, sum_zz, sum_zy = weighted.sum(1), np.einsum("fc,fc->f", weighted, z), weighted @ y
        scale = np.maximum((sum_zy - sum_z * sum_y / total) / (sum_zz - sum_z**2 / total), 0)
        irreducible = (sum_y - scale * sum_z) / total
        scale, irreducible = np.where(irreducible < 0, sum_zy / sum_zz, scale), np.maximum(irreducible, 0)
        off = irreducible[:, None] + scale[:, None] * z - y
        return np.einsum("fc,fc,fc->f", weights, off, off), irreducible, scale

    grid = np.log(np.geomspace(*EXPONENTS, GRID))
    best = np.argmin([at(np.full(len(weights), one))[0] for one in grid], axis=0)
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, GRID - 1)]
    for _ in range(SECTIONS):
        reach = GOLDEN * (high - low)
        left = at(high - reach)[0] <= at(low + reach)[0]
        low, high = np.where(left, low, high - reach), np.where(left, low + reach, high)
    _, irreducible, scale = at((low + high) / 2)
    exponent = np.exp((low + high) / 2)
    exponent = np.where(scale > 0, exponent, EXPONENTS[0])  # nothing falls: any exponent would do
    return np.stack([irreducible, scale * middle**exponent, exponent])


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
