"""Claims that a metric improves linearly with a logarithm."""

import numpy as np

from vitok.analysis.claims.claim import Claim, Judgement, Metrics, amount, preferred, reaches, sentences, sign
from vitok.analysis.claims.comparisons import Selection, chosen, told, worded
from vitok.analysis.claims.seeds import settled_by_cells
from vitok.analysis.fits.log_linear import Fit, log_linear
from vitok.analysis.fits.parabola import quantities, quantity
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS


def correlates(
    metrics: Metrics, *, source: str, along: str = "E", at_least: float = 0.9, of: Selection | None = None, name_of: str = ""
) -> Claim:
    """Pearson's r between a metric (its logarithm for distances) and log2 of a column reaches a bound; r counts as positive where the
    metric improves. Its interval is the bootstrap's over cells. `of`: the cells that it is about, all without."""

    def words(metric: str) -> str:
        grows = "grows" if METRICS[metric].higher else "falls"
        whose = f" with {name_of or told(of)}" if of else ""
        return f"{quantity(metric)}{whose} {grows} linearly with log {worded(along)}"

    def judge(rows: list[Row], metric: str) -> Judgement:
        rows = [row for row, taken in zip(rows, chosen(rows, of or {}), strict=True) if taken]
        usable, notes = quantities(rows, metric)
        toward, fit = sign(metric), _fit(usable, metric, along)
        r, bounds = toward * fit.pearson_r, _bounds(fit, toward)
        opinion, reason, needed = reaches(at_least)(bounds), "", None
        if opinion == "inconclusive":

            def decided(more: list[Row]) -> bool:
                return reaches(at_least)(_bounds(_fit(quantities(more, metric)[0], metric, along), toward)) != "inconclusive"

            needed, reason = settled_by_cells(rows, metric, about_line(usable, fit, along), decided)
        slope = f"{fit.slope:+.2f} for each doubling of {worded(along)}"
        falling = "" if METRICS[metric].higher else ", counted as positive where it falls"
        evidence = f"Pearson r = {r:.3f} (95 % interval {bounds[0]:.3f} to {bounds[1]:.3f}) over {fit.cells} cells{falling}, {slope}"
        asked = f"r of at least {at_least:g} is asked"
        effect = f"{quantity(metric)} {slope}" if quantity(metric) != metric else f"{amount(fit.slope, metric, True)} a doubling"
        return Judgement(opinion, sentences(evidence, *notes, asked, reason), r, bounds, effect, needed)

    return Claim(words, source, (preferred(metrics),), at_least, judge)


def grows_with_floats(metrics: Metrics, *, at_least: float, source: str) -> Claim:
    """Pearson's r between a metric and log2 E reaches a bound; see `correlates`."""
    return correlates(metrics, source=source, at_least=at_least)


def about_line(rows: list[Row], fit: Fit, along: str = "E") -> float:
    """The variance of the cells about their line."""
    x, y = np.log2([float(row[along]) for row in rows]), np.array([row[fit.metric] for row in rows])
    return float(np.square(y - fit.intercept - fit.slope * x).sum() / (len(y) - 2))


def _fit(rows: list[Row], metric: str, along: str) -> Fit:
    """`log_linear` on another column."""
    lacking = sum(not float(row.get(along) or 0) > 0 for row in rows)
    if lacking:
        raise VitokError(f"{along} is no positive number in {lacking} of {len(rows)} cells")
    values = {float(row[along]) for row in rows}
    if len(values) < 3:
        raise VitokError(f"a fit of {quantity(metric)} on log2 {along} needs three values of {along}, there are {len(values)}")
    return log_linear([row | {"E": row[along]} for row in rows], metric)


def _bounds(fit: Fit, toward: int) -> tuple[float, float]:
    low, high = sorted(toward * end for end in fit.pearson_r_interval)
    return low, high
