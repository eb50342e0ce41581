"""Claims that a metric improves linearly with the logarithm of a column."""

import numpy as np

from vitok.analysis.claims.claim import (
    Claim,
    Judgement,
    MetricPreference,
    canonical_names,
    direction,
    format_value,
    join_sentences,
    reaches,
)
from vitok.analysis.claims.comparisons import Selection, column_words, describe_selection, selection_mask
from vitok.analysis.claims.seeds import seeds_to_decide_from_cells
from vitok.analysis.fits.lines import LogLinearFit, log_linear
from vitok.analysis.fits.quantity import fitted_quantity, fitted_rows
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS


def correlates(
    metrics: MetricPreference, *, source: str, along: str = "E", at_least: float = 0.9, of: Selection | None = None, name_of: str = ""
) -> Claim:
    """Claim that Pearson's r between a metric (its logarithm for distances) and log2 of the column `along` is at least `at_least`.

    r counts as positive where the metric improves. Its interval is the bootstrap interval over cells. `of` selects the cells that the claim
    is about, all without it; `name_of` names them in the statement.
    """

    def wording(metric: str) -> str:
        grows = "grows" if METRICS[metric].higher else "falls"
        whose = f" with {name_of or describe_selection(of)}" if of else ""
        return f"{fitted_quantity(metric)}{whose} {grows} linearly with log {column_words(along)}"

    def judge(rows: list[Row], metric: str) -> Judgement:
        rows = [row for row, taken in zip(rows, selection_mask(rows, of or {}), strict=True) if taken]
        usable, notes = fitted_rows(rows, metric)
        toward, fit = direction(metric), _fit(usable, metric, along)
        r, bounds = toward * fit.pearson_r, _improving_interval(fit, toward)
        outcome, reason, needed = reaches(at_least)(bounds), "", None
        if outcome == "inconclusive":

            def decided(more: list[Row]) -> bool:
                return reaches(at_least)(_improving_interval(_fit(fitted_rows(more, metric)[0], metric, along), toward)) != "inconclusive"

            needed, reason = seeds_to_decide_from_cells(rows, metric, residual_variance(usable, fit, along), decided)
        slope = f"{fit.slope:+.2f} for each doubling of {column_words(along)}"
        falling = "" if METRICS[metric].higher else ", counted as positive where it falls"
        evidence = f"Pearson r = {r:.3f} (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}) over {fit.cells} cells{falling}, {slope}"
        asked = f"r of at least {at_least:g} is asked"
        effect = (
            f"{fitted_quantity(metric)} {slope}"
            if fitted_quantity(metric) != metric
            else f"{format_value(fit.slope, metric, True)} a doubling"
        )
        return Judgement(outcome, join_sentences(evidence, *notes, asked, reason), r, bounds, effect, needed)

    return Claim(wording, source, (canonical_names(metrics),), at_least, judge)


def grows_with_floats(metrics: MetricPreference, *, at_least: float, source: str) -> Claim:
    """Claim that Pearson's r between a metric and log2 E is at least `at_least`; see `correlates`."""
    return correlates(metrics, source=source, at_least=at_least)


def residual_variance(rows: list[Row], fit: LogLinearFit, along: str = "E") -> float:
    """Return the variance of the cells about their fitted line."""
    x, y = np.log2([float(row[along]) for row in rows]), np.array([row[fit.metric] for row in rows])
    return float(np.square(y - fit.intercept - fit.slope * x).sum() / (len(y) - 2))


def _fit(rows: list[Row], metric: str, along: str) -> LogLinearFit:
    """Fit a line on log2 of a column. Raises `VitokError` unless the column has three positive values."""
    lacking = sum(not float(row.get(along) or 0) > 0 for row in rows)
    if lacking:
        raise VitokError(f"{along} is no positive number in {lacking} of {len(rows)} cells")
    values = {float(row[along]) for row in rows}
    if len(values) < 3:
        raise VitokError(f"a fit of {fitted_quantity(metric)} on log2 {along} needs three values of {along}, there are {len(values)}")
    return log_linear([row | {"E": row[along]} for row in rows], metric)


def _improving_interval(fit: LogLinearFit, toward: int) -> tuple[float, float]:
    """Return the interval of Pearson's r, counted as positive where the metric improves."""
    low, high = sorted(toward * end for end in fit.pearson_r_interval)
    return low, high
