"""Claims about generation: an optimum in E (Figure 4), and no slope in E."""

import numpy as np

from vitok.analysis.claims.claim import Claim, Judgement, MetricPreference, Outcome, canonical_names, join_sentences, stays_within
from vitok.analysis.claims.seeds import seeds_to_decide_from_cells
from vitok.analysis.claims.trends import residual_variance
from vitok.analysis.fits.bootstrap import Interval
from vitok.analysis.fits.lines import log_linear
from vitok.analysis.fits.parabola import Parabola, Parabolas, parabolas
from vitok.analysis.fits.quantity import fitted_quantity, fitted_rows
from vitok.analysis.rows import Row

CERTAIN_SHARE = 0.95  # of the draws must have an optimum inside the measured range


def has_optimum(metrics: MetricPreference, *, source: str) -> Claim:
    """Claim that each patch size has an optimum strictly inside its measured range of E.

    The claim is judged by the share of draws of a parabola's coefficients that have such an optimum. It is supported if the share is at
    least 95 % for every patch size, each with a fit. It is not supported if the share is at most 5 % for some patch size, since one
    exception is enough; the 5 % are divided by the number of patch sizes, since any of them could be that low by chance. The verdict's
    value is the least share, its interval goes from there to the greatest. The optima and their 95 % intervals are in the evidence.
    """

    def wording(metric: str) -> str:
        return f"{fitted_quantity(metric)} has an optimum in E for each patch size, not a slope"

    def judge(rows: list[Row], metric: str) -> Judgement:
        curves = parabolas(rows, metric)
        shares = [one.inside for one in curves.parabolas.values() if one.inside is not None]
        if not shares:
            return Judgement("inconclusive", _parabolas_text(curves))
        outcome, reason, needed = _outcome(curves), "", None
        if outcome == "inconclusive":
            residual = max(one.deviation**2 for one in curves.parabolas.values() if one.deviation is not None)

            def decided(more: list[Row]) -> bool:
                return _outcome(parabolas(more, metric)) != "inconclusive"

            needed, reason = seeds_to_decide_from_cells(rows, metric, residual, decided)
        optima = [f"E = {format_floats(one.optimum)} at p = {p}" for p, one in curves.parabolas.items() if one.optimum is not None]
        effect = f"optima at {', '.join(optima)}" if optima else "no optimum"
        return Judgement(outcome, join_sentences(_parabolas_text(curves), reason), min(shares), (min(shares), max(shares)), effect, needed)

    return Claim(wording, source, (canonical_names(metrics),), CERTAIN_SHARE, judge)


def no_slope(metrics: MetricPreference, *, at_most: float, source: str) -> Claim:
    """Claim that |Pearson's r| between a metric (its logarithm for distances) and log2 E, over all patch sizes, is at most `at_most`.

    The interval is the bootstrap interval of r over cells, mapped to the absolute value.
    """
    decide = stays_within(at_most)

    def wording(metric: str) -> str:
        return f"{fitted_quantity(metric)} has no slope in log E"

    def judge(rows: list[Row], metric: str) -> Judgement:
        usable, notes = fitted_rows(rows, metric)
        fit = log_linear(usable, metric)
        bounds = _absolute_interval(fit.pearson_r_interval)
        outcome, reason, needed = decide(bounds), "", None
        if outcome == "inconclusive":

            def decided(more: list[Row]) -> bool:
                return decide(_absolute_interval(log_linear(fitted_rows(more, metric)[0], metric).pearson_r_interval)) != "inconclusive"

            needed, reason = seeds_to_decide_from_cells(rows, metric, residual_variance(usable, fit), decided)
        signed = "{:.3f} to {:.3f}".format(*fit.pearson_r_interval)
        found = f"Pearson r = {fit.pearson_r:.3f} (95 % interval {signed}) over {fit.cells} cells"
        evidence = join_sentences(found, *notes, f"|r| of at most {at_most:g} is asked", reason)
        effect = f"{fitted_quantity(metric)} {fit.slope:+.3g} for each doubling of E"
        return Judgement(outcome, evidence, abs(fit.pearson_r), bounds, effect, needed)

    return Claim(wording, source, (canonical_names(metrics),), at_most, judge)


def _outcome(curves: Parabolas) -> Outcome:
    """Decide by the least share of draws that have an optimum inside the measured range."""
    shares = [one.inside for one in curves.parabolas.values() if one.inside is not None]
    if min(shares) <= (1 - CERTAIN_SHARE) / len(shares):
        return "not supported"
    return "supported" if min(shares) >= CERTAIN_SHARE and len(shares) == len(curves.parabolas) else "inconclusive"


def _absolute_interval(bounds: Interval) -> Interval:
    """Return the interval of the absolute value."""
    low, high = sorted(np.abs(bounds).tolist())
    return (0.0 if bounds[0] <= 0 <= bounds[1] else low), high


def _parabolas_text(curves: Parabolas) -> str:
    """Describe the optimum of every patch size, and what is left out."""
    return "; ".join([*(f"p = {p}: {_parabola_text(one)}" for p, one in curves.parabolas.items()), *curves.notes])


def _parabola_text(one: Parabola) -> str:
    """Describe the optimum of one patch size with its interval, and the channels that it amounts to."""
    text = "no optimum" if one.optimum is None else f"optimum E = {format_floats(one.optimum)}"
    if one.optimum_interval:
        text += f" (95 % interval {format_floats(one.optimum_interval[0])} to {format_floats(one.optimum_interval[1])})"
    if one.optimum is not None:
        text += f", c = {one.optimum / one.tokens:.3g}"
    if one.optimum_interval:
        text += f" ({one.optimum_interval[0] / one.tokens:.3g} to {one.optimum_interval[1] / one.tokens:.3g})"
    if one.inside is not None:
        text += f", {one.inside:.1%} of draws have it inside the measured E"
    return text + (f" [{'; '.join(one.notes)}]" if one.notes else "")


def format_floats(floats: float) -> str:
    """Format an E as a whole number, with at most six significant digits."""
    return f"{round(floats):.6g}"
