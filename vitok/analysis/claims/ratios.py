"""Claims on how many times the floats one kind of cell needs for the value that another has (Figures 10 and 12)."""

import numpy as np

from vitok.analysis.claims.claim import Claim, Decide, Judgement, Metrics, Opinion, preferred, sentences, stays_within
from vitok.analysis.claims.comparisons import worded
from vitok.analysis.claims.effects import Means, means
from vitok.analysis.claims.seeds import IMAGES, SIZES, settle
from vitok.analysis.fits.log_linear import RESAMPLES, Interval, interval
from vitok.analysis.fits.parabola import logged, quantities, quantity
from vitok.analysis.rows import Row
from vitok.errors import UsageError, VitokError

CERTAIN = 0.975  # of the draws of the slope have its sign, or the ratio is not bounded


def needs_floats(
    metrics: Metrics, *, between: str, source: str, ratio: float | None = None, within: float = 1.5, at_most: float | None = None,
    small: float | None = None, large: float | None = None,
) -> Claim:  # fmt: skip
    """Cells whose column `between` is `large` need `ratio` times the E of those where it is `small` for the same value of the metric,
    within a factor; or, with `at_most` instead, no more than so many times.

    Without `small` and `large` the column's two values are taken. Lines of one slope in log2 E are fitted to the means of the settings
    of the two groups (of the metric's logarithm for distances); the ratio is 2^(shift / slope). Its interval: held-out images are
    drawn anew, and the coefficients are Student's t with settings - 3 degrees of freedom, by how the settings lie about their lines;
    a bootstrap over so few settings is too narrow. Where the groups' values do not overlap, the ratio is an extrapolation, and the
    claim stays open. Raises `UsageError` unless one of `ratio` and `at_most` is given.
    """
    if (ratio is None) == (at_most is None):
        raise UsageError("needs_floats: give either ratio or at_most")
    bound = ratio if ratio is not None else float(at_most or 0)
    decide = _near(bound / within, bound * within) if ratio is not None else stays_within(bound)
    asked = f"{bound / within:.3g} to {bound * within:.3g}" if ratio is not None else f"at most {bound:g}"

    def words(metric: str) -> str:
        times = f"{bound:g} times" if ratio is not None else f"at most {bound:g} times"
        return f"the same {metric} takes {times} the floats E at the larger {worded(between)}"

    def judge(rows: list[Row], metric: str) -> Judgement:
        usable, notes = quantities(rows, metric)
        cells = {row["cell"] for row in usable}
        low, high = _ends(usable, between, small, large)
        found = means([row for row in rows if row["cell"] in cells and row.get(between) in (low, high)], metric)
        second = np.array([row[between] == high for row in found.rows])
        x, y = np.log2([float(row["E"]) for row in found.rows]), np.log(found.values) if logged(metric) else found.values
        fit = _Lines(x, y, second)

        def known(more: float) -> Interval:
            return fit.interval(0 if logged(metric) else found.image_draws, _narrowing(found, fit.variance, more))

        narrower = SIZES if found.images is None else f"{SIZES} or {IMAGES}"
        scatter = found.deviation is not None and found.proportional == logged(metric)
        apart = _apart(found.values[~second], found.values[second], metric, f"{between} = {low:g} and {high:g}")
        settled = settle(known, decide, scatter, narrower)
        value = float(np.exp2(fit.shift / fit.slope))
        over = f"{len(x)} settings" + (f" and {found.images.shape[1]} held-out images" if found.images is not None else "")
        evidence = (
            f"{between} = {high:g} takes {value:.3g} times the E of {between} = {low:g} for the same {metric} "
            f"(95 % interval {settled.interval[0]:.3g} to {settled.interval[1]:.3g} over {over}), by lines of "
            f"{fit.slope:+.3g} of {quantity(metric)} for each doubling of E"
        )
        unbounded = "the lines' slope is not told from none, so that the ratio is not bounded" if np.isinf(settled.interval[1]) else ""
        said = sentences(evidence, unbounded, f"{asked} is asked", *notes, apart or settled.reason)
        effect = f"{value:.3g} times the floats"
        if apart:
            return Judgement("inconclusive", said, value, settled.interval, effect)
        return Judgement(settled.verdict, said, value, settled.interval, effect, settled.seeds_needed)

    return Claim(words, source, (preferred(metrics),), bound, judge)


def _near(low: float, high: float) -> Decide:
    def decide(bounds: Interval) -> Opinion:
        if low <= bounds[0] and bounds[1] <= high:
            return "supported"
        return "not supported" if bounds[1] < low or bounds[0] > high else "inconclusive"

    return decide


def _ends(rows: list[Row], between: str, small: float | None, large: float | None) -> tuple[float, float]:
    values = sorted({row[between] for row in rows if between in row})
    low, high = (small if small is not None else min(values, default=None)), (large if large is not None else max(values, default=None))
    others = [value for value in values if value not in (low, high)]
    if low is None or high is None or low == high or not {low, high} <= set(values) or (others and None in (small, large)):
        raise VitokError(f"two values of {between} are to be compared, there are {', '.join(map(str, values)) or 'none'}")
    return low, high


def _apart(first: np.ndarray, second: np.ndarray, metric: str, names: str) -> str:
    """What is wrong where no value of the metric lies in both groups' ranges."""
    ranges = (first.min(), first.max()), (second.min(), second.max())
    if max(ranges[0][0], ranges[1][0]) <= min(ranges[0][1], ranges[1][1]):
        return ""
    lies = " and ".join(f"{low:.4g} to {high:.4g}" for low, high in ranges)
    return f"the values of {metric} with {names} do not overlap ({lies}), so that the ratio is an extrapolation: take other E"


def _narrowing(found: Means, variance: float, more: float) -> float:
    """What is left of the deviation about the lines with so many more seeds: they take from what seeds have made of it."""
    if not more or found.deviation is None or not variance:
        return 1.0
    seeds = 1 / float(np.mean(1 / found.seeds))
    own = min(variance, found.deviation**2 / seeds)
    return float(np.sqrt((variance - own + own * seeds / (seeds + more)) / variance))


class _Lines:
    """Least squares of y on log2 E in two groups, with one slope. Raises `VitokError` where that leaves no degree of freedom."""

    def __init__(self, x: np.ndarray, y: np.ndarray, second: np.ndarray) -> None:
        design = np.stack([~second, second, x - x.mean()], axis=1).astype(float)
        self.freedom = len(x) - 3
        if self.freedom < 1 or np.linalg.matrix_rank(design) < 3:
            raise VitokError(f"lines through two groups need four settings with several values of E, there are {len(x)}")
        self.inverse = np.linalg.pinv(design)  # (3, settings)
        self.coefficients = self.inverse @ y
        self.variance = float(np.square(y - design @ self.coefficients).sum() / self.freedom)
        self.shift, self.slope = float(self.coefficients[0] - self.coefficients[1]), float(self.coefficients[2])

    def interval(self, moved: np.ndarray | float, narrowing: float) -> Interval:
        """Of the ratio of E; `moved` (draws, settings): by how much drawing images anew moves the means."""
        rng = np.random.default_rng(1)
        normal = rng.standard_normal((RESAMPLES, self.inverse.shape[1]))
        scatter = normal * np.sqrt(self.variance * self.freedom / rng.chisquare(self.freedom, (RESAMPLES, 1)))
        first, second, slope = (self.coefficients + (moved + narrowing * scatter) @ self.inverse.T).T
        if np.mean(slope * self.slope > 0) < CERTAIN:
            return 0.0, float("inf")
        with np.errstate(over="ignore"):
            low, high = np.exp2(interval((first - second) / slope))
        return float(low), float(high)
