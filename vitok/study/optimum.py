"""Claims about generation: it has an optimum in E (Figure 4), and no slope."""

import numpy as np

from vitok.errors import VitokError
from vitok.study.claims import Claim, Verdict, undecided
from vitok.study.curves import Curves, Parabola, quantities, quantity, second_order
from vitok.study.fit import Interval, log_linear
from vitok.study.study import Row

ALL = 0.95  # of the draws: an optimum for certain


def has_optimum(*metrics: str, source: str) -> Claim:
    """Of the first of these metrics that was measured: each patch size has an optimum strictly inside its measured range of E.

    Judged by the share of draws of a parabola's coefficients that have one: supported if it is at least 95 % for every patch
    size with a fit; not supported if it is at most 5 % (divided by their number, since each of them could be that low by
    chance) for some patch size, for one exception is enough. The verdict's value is the least share, its interval goes from
    there to the greatest; the optima and their 95 % intervals are in the evidence.
    """

    def judge(rows: list[Row]) -> Verdict:
        metric = _measured(metrics, rows)
        claim = f"{quantity(metric)} has an optimum in E for each patch size, not a slope"
        try:
            curves = second_order(rows, metric)
        except VitokError as error:
            return undecided(claim, source, str(error), ALL)
        shares = [one.inside for one in curves.parabolas.values() if one.inside is not None]
        evidence = _told(curves)
        if not shares:
            return undecided(claim, source, evidence, ALL)
        refuted, certain = min(shares) <= (1 - ALL) / len(shares), min(shares) >= ALL and len(shares) == len(curves.parabolas)
        verdict = "not supported" if refuted else "supported" if certain else "inconclusive"
        return Verdict(claim, source, verdict, evidence, min(shares), (min(shares), max(shares)), ALL)

    return judge


def no_slope(*metrics: str, at_most: float, source: str) -> Claim:
    """Of the first of these metrics that was measured: |Pearson's r| between it (its logarithm for distances) and log2 E, over all
    patch sizes, stays below a bound.

    The interval is the bootstrap's over cells of r, folded at zero.
    """

    def judge(rows: list[Row]) -> Verdict:
        metric = _measured(metrics, rows)
        claim = f"{quantity(metric)} has no slope in log E"
        try:
            usable, notes = quantities(rows, metric)
            fit = log_linear(usable, metric)
        except VitokError as error:
            return undecided(claim, source, str(error), at_most)
        low, high = _folded(fit.pearson_r_interval)
        verdict = "supported" if high <= at_most else "not supported" if low > at_most else "inconclusive"
        signed = "{:.3f} to {:.3f}".format(*fit.pearson_r_interval)
        found = f"Pearson r = {fit.pearson_r:.3f} (95 % interval {signed}) over {fit.cells} cells"
        evidence = "; ".join([found, *notes, f"|r| of at most {at_most:g} is asked"])
        return Verdict(claim, source, verdict, evidence, abs(fit.pearson_r), (low, high), at_most)

    return judge


def _measured(metrics: tuple[str, ...], rows: list[Row]) -> str:
    return next((metric for metric in metrics if any(metric in row for row in rows)), metrics[0])


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
