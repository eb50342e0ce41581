"""Claims about generation: it has an optimum in E (Figure 4), and no slope."""

import numpy as np

from vitok.analysis.claims.claim import Claim, Judgement, Metrics, Opinion, preferred, sentences, stays_within
from vitok.analysis.claims.seeds import settled_by_cells
from vitok.analysis.claims.trends import about_line
from vitok.analysis.fits.log_linear import Interval, log_linear
from vitok.analysis.fits.parabola import Curves, Parabola, quantities, quantity, second_order
from vitok.analysis.rows import Row

ALL = 0.95  # of the draws: an optimum for certain


def has_optimum(metrics: Metrics, *, source: str) -> Claim:
    """Each patch size has an optimum strictly inside its measured range of E.

    Judged by the share of draws of a parabola's coefficients that have one: supported if it is at least 95 % for every patch
    size with a fit; not supported if it is at most 5 % (divided by their number, since each of them could be that low by
    chance) for some patch size, for one exception is enough. The verdict's value is the least share, its interval goes from
    there to the greatest; the optima and their 95 % intervals are in the evidence.
    """

    def words(metric: str) -> str:
        return f"{quantity(metric)} has an optimum in E for each patch size, not a slope"

    def judge(rows: list[Row], metric: str) -> Judgement:
        curves = second_order(rows, metric)
        shares = [one.inside for one in curves.parabolas.values() if one.inside is not None]
        if not shares:
            return Judgement("inconclusive", _told(curves))
        opinion, reason, needed = _opinion(curves), "", None
        if opinion == "inconclusive":
            residual = max(one.deviation**2 for one in curves.parabolas.values() if one.deviation is not None)

            def decided(more: list[Row]) -> bool:
                return _opinion(second_order(more, metric)) != "inconclusive"

            needed, reason = settled_by_cells(rows, metric, residual, decided)
        optima = [f"E = {whole(one.optimum)} at p = {p}" for p, one in curves.parabolas.items() if one.optimum is not None]
        effect = f"optima at {', '.join(optima)}" if optima else "no optimum"
        return Judgement(opinion, sentences(_told(curves), reason), min(shares), (min(shares), max(shares)), effect, needed)

    return Claim(words, source, (preferred(metrics),), ALL, judge)


def no_slope(metrics: Metrics, *, at_most: float, source: str) -> Claim:
    """|Pearson's r| between a metric (its logarithm for distances) and log2 E, over all patch sizes, stays below a bound.

    The interval is the bootstrap's over cells of r, folded at zero.
    """
    decide = stays_within(at_most)

    def words(metric: str) -> str:
        return f"{quantity(metric)} has no slope in log E"

    def judge(rows: list[Row], metric: str) -> Judgement:
        usable, notes = quantities(rows, metric)
        fit = log_linear(usable, metric)
        bounds = _folded(fit.pearson_r_interval)
        opinion, reason, needed = decide(bounds), "", None
        if opinion == "inconclusive":

            def decided(more: list[Row]) -> bool:
                return decide(_folded(log_linear(quantities(more, metric)[0], metric).pearson_r_interval)) != "inconclusive"

            needed, reason = settled_by_cells(rows, metric, about_line(usable, fit), decided)
        signed = "{:.3f} to {:.3f}".format(*fit.pearson_r_interval)
        found = f"Pearson r = {fit.pearson_r:.3f} (95 % interval {signed}) over {fit.cells} cells"
        evidence = sentences(found, *notes, f"|r| of at most {at_most:g} is asked", reason)
        effect = f"{quantity(metric)} {fit.slope:+.3g} for each doubling of E"
        return Judgement(opinion, evidence, abs(fit.pearson_r), bounds, effect, needed)

    return Claim(words, source, (preferred(metrics),), at_most, judge)


def _opinion(curves: Curves) -> Opinion:
    shares = [one.inside for one in curves.parabolas.values() if one.inside is not None]
    if min(shares) <= (1 - ALL) / len(shares):
        return "not supported"
    return "supported" if min(shares) >= ALL and len(shares) == len(curves.parabolas) else "inconclusive"


def _folded(bounds: Interval) -> Interval:
    """Of the absolute value."""
    low, high = sorted(np.abs(bounds).tolist())
    return (0.0 if bounds[0] <= 0 <= bounds[1] else low), high


def _told(curves: Curves) -> str:
    return "; ".join([*(f"p = {p}: {_sentence(one)}" for p, one in curves.parabolas.items()), *curves.notes])


def _sentence(one: Parabola) -> str:
    text = "no optimum" if one.optimum is None else f"optimum E = {whole(one.optimum)}"
    if one.optimum_interval:
        text += f" (95 % interval {whole(one.optimum_interval[0])} to {whole(one.optimum_interval[1])})"
    if one.optimum is not None:
        text += f", c = {one.optimum / one.tokens:.3g}"
    if one.optimum_interval:
        text += f" ({one.optimum_interval[0] / one.tokens:.3g} to {one.optimum_interval[1] / one.tokens:.3g})"
    if one.inside is not None:
        text += f", {one.inside:.1%} of draws have it inside the measured E"
    return text + (f" [{'; '.join(one.notes)}]" if one.notes else "")


def whole(floats: float) -> str:
    """An E, without a fraction; one far away without all its digits."""
    return f"{round(floats):.6g}"
