"""Claims on the ratio of E that two kinds of cells need for the same value of a metric (Figures 10 and 12)."""

import numpy as np

from vitok.analysis.claims.claim import (
    Claim,
    DecisionRule,
    Judgement,
    MetricPreference,
    Outcome,
    canonical_names,
    join_sentences,
    stays_within,
)
from vitok.analysis.claims.comparisons import column_words
from vitok.analysis.claims.seeds import MORE_IMAGES, MORE_VALUES_OF_E, seeds_to_decide
from vitok.analysis.claims.setting_means import SettingMeans, means
from vitok.analysis.fits.bootstrap import RESAMPLES, Interval, percentile_interval
from vitok.analysis.fits.quantity import fitted_quantity, fitted_rows, is_log_scaled
from vitok.analysis.rows import Row
from vitok.errors import UsageError, VitokError

SLOPE_CERTAIN_SHARE = 0.975  # of the draws of the slope must have its sign: else the ratio has no bounded interval


def needs_floats(
    metrics: MetricPreference, *, between: str, source: str, ratio: float | None = None, within: float = 1.5, at_most: float | None = None,
    small: float | None = None, large: float | None = None,
) -> Claim:  # fmt: skip
    """Claim that cells whose column `between` is `large` need `ratio` times the E of cells where it is `small` for the same value of the
    metric, within a factor `within`. With `at_most` instead of `ratio`, claim that they need at most that many times the E.

    Without `small` and `large` the column's two values are taken. Lines of one slope in log2 E are fitted to the means of the settings of
    the two groups (of the metric's logarithm for distances); the ratio is 2^(shift / slope). For its interval, held-out images are
    resampled, and the coefficients follow Student's t with settings - 3 degrees of freedom, by the residuals of the settings; a bootstrap
    over so few settings is too narrow. Where the groups' values of the metric do not overlap, the ratio is an extrapolation, and the claim
    is inconclusive. Raises `UsageError` unless exactly one of `ratio` and `at_most` is given.
    """
    if (ratio is None) == (at_most is None):
        raise UsageError("needs_floats: give either ratio or at_most")
    bound = ratio if ratio is not None else float(at_most or 0)
    decide = _between(bound / within, bound * within) if ratio is not None else stays_within(bound)
    asked = f"{bound / within:.3g} to {bound * within:.3g}" if ratio is not None else f"at most {bound:g}"

    def wording(metric: str) -> str:
        times = f"{bound:g} times" if ratio is not None else f"at most {bound:g} times"
        return f"the same {metric} takes {times} the floats E at the larger {column_words(between)}"

    def judge(rows: list[Row], metric: str) -> Judgement:
        usable, notes = fitted_rows(rows, metric)
        cells = {row["cell"] for row in usable}
        low, high = _compared_values(usable, between, small, large)
        found = means([row for row in rows if row["cell"] in cells and row.get(between) in (low, high)], metric)
        second = np.array([row[between] == high for row in found.rows])
        x, y = np.log2([float(row["E"]) for row in found.rows]), np.log(found.values) if is_log_scaled(metric) else found.values
        fit = _ParallelLines(x, y, second)

        def interval_with(more: float) -> Interval:
            return fit.interval(0 if is_log_scaled(metric) else found.image_draws, _remaining_deviation(found, fit.variance, more))

        narrower = MORE_VALUES_OF_E if found.images is None else f"{MORE_VALUES_OF_E} or {MORE_IMAGES}"
        scatter = found.deviation is not None and found.proportional == is_log_scaled(metric)
        apart = _no_overlap_text(found.values[~second], found.values[second], metric, f"{between} = {low:g} and {high:g}")
        settled = seeds_to_decide(interval_with, decide, scatter, narrower)
        value = float(np.exp2(fit.shift / fit.slope))
        over = f"{len(x)} settings" + (f" and {found.images.shape[1]} held-out images" if found.images is not None else "")
        evidence = (
            f"{between} = {high:g} takes {value:.3g} times the E of {between} = {low:g} for the same {metric} "
            f"(95 % interval {settled.interval[0]:.3g} to {settled.interval[1]:.3g} over {over}), by lines of "
            f"{fit.slope:+.3g} of {fitted_quantity(metric)} for each doubling of E"
        )
        unbounded = "the lines' slope is not told from none, so that the ratio is not bounded" if np.isinf(settled.interval[1]) else ""
        said = join_sentences(evidence, unbounded, f"{asked} is asked", *notes, apart or settled.reason)
        effect = f"{value:.3g} times the floats"
        if apart:
            return Judgement("inconclusive", said, value, settled.interval, effect)
        return Judgement(settled.verdict, said, value, settled.interval, effect, settled.seeds_needed)

    return Claim(wording, source, (canonical_names(metrics),), bound, judge)


def _between(low: float, high: float) -> DecisionRule:
    """Return the decision rule "the value lies between `low` and `high`"."""

    def decide(bounds: Interval) -> Outcome:
        if low <= bounds[0] and bounds[1] <= high:
            return "supported"
        return "not supported" if bounds[1] < low or bounds[0] > high else "inconclusive"

    return decide


def _compared_values(rows: list[Row], between: str, small: float | None, large: float | None) -> tuple[float, float]:
    """Return the small and the large value of the column. Raises `VitokError` unless exactly two values are to be compared."""
    values = sorted({row[between] for row in rows if between in row})
    low, high = (small if small is not None else min(values, default=None)), (large if large is not None else max(values, default=None))
    others = [value for value in values if value not in (low, high)]
    if low is None or high is None or low == high or not {low, high} <= set(values) or (others and None in (small, large)):
        raise VitokError(f"two values of {between} are to be compared, there are {', '.join(map(str, values)) or 'none'}")
    return low, high


def _no_overlap_text(first: np.ndarray, second: np.ndarray, metric: str, names: str) -> str:
    """Return a note if the two groups' ranges of the metric have no value in common, else ""."""
    ranges = (first.min(), first.max()), (second.min(), second.max())
    if max(ranges[0][0], ranges[1][0]) <= min(ranges[0][1], ranges[1][1]):
        return ""
    lies = " and ".join(f"{low:.4g} to {high:.4g}" for low, high in ranges)
    return f"the values of {metric} with {names} do not overlap ({lies}), so that the ratio is an extrapolation: take other E"


def _remaining_deviation(found: SettingMeans, variance: float, more: float) -> float:
    """Return the factor by which `more` additional seeds would shrink the deviation about the lines: that of the part that seeds cause."""
    if not more or found.deviation is None or not variance:
        return 1.0
    seeds = 1 / float(np.mean(1 / found.seeds))
    own = min(variance, found.deviation**2 / seeds)
    return float(np.sqrt((variance - own + own * seeds / (seeds + more)) / variance))


class _ParallelLines:
    """Least squares of y on log2 E in two groups with a common slope. Raises `VitokError` if no degree of freedom is left."""

    def __init__(self, x: np.ndarray, y: np.ndarray, second: np.ndarray) -> None:
        design = np.stack([~second, second, x - x.mean()], axis=1).astype(float)
        self.degrees_of_freedom = len(x) - 3
        if self.degrees_of_freedom < 1 or np.linalg.matrix_rank(design) < 3:
            raise VitokError(f"lines through two groups need four settings with several values of E, there are {len(x)}")
        self.inverse = np.linalg.pinv(design)  # (3, settings)
        self.coefficients = self.inverse @ y
        self.variance = float(np.square(y - design @ self.coefficients).sum() / self.degrees_of_freedom)
        self.shift, self.slope = float(self.coefficients[0] - self.coefficients[1]), float(self.coefficients[2])

    def interval(self, moved: np.ndarray | float, narrowing: float) -> Interval:
        """Return the 95 % interval of the ratio of E; (0, inf) if the sign of the slope is uncertain.

        `moved` (draws, settings) are the shifts of the means under resampled images, `narrowing` a factor on the residual deviation.
        """
        rng = np.random.default_rng(1)
        normal = rng.standard_normal((RESAMPLES, self.inverse.shape[1]))
        scatter = normal * np.sqrt(self.variance * self.degrees_of_freedom / rng.chisquare(self.degrees_of_freedom, (RESAMPLES, 1)))
        first, second, slope = (self.coefficients + (moved + narrowing * scatter) @ self.inverse.T).T
        if np.mean(slope * self.slope > 0) < SLOPE_CERTAIN_SHARE:
            return 0.0, float("inf")
        with np.errstate(over="ignore"):
            low, high = np.exp2(percentile_interval((first - second) / slope))
        return float(low), float(high)
