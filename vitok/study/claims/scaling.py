"""Claims that a larger part of the model helps, or does not."""

from collections.abc import Callable

import numpy as np

from vitok.errors import VitokError
from vitok.study.claims.claim import Claim, Decide, Judgement, Metrics, amount, preferred, reaches, sign, stays_within
from vitok.study.claims.differences import equal, of_gain, worded
from vitok.study.claims.effects import Means, means
from vitok.study.fit import interval
from vitok.study.study import Row


def scaling_helps(
    metrics: Metrics, *, at_least: float, source: str, along: str = "decoder_params_m", matched_on: tuple[str, ...] = ("encoder_params_m",)
) -> Claim:
    """From the smallest to the largest value of a column the metric gains at least `at_least`, in its unit: the mean over all groups
    of cells that are equal in `matched_on`. The slope for each doubling of the column, in those groups, is the effect."""

    def words(metric: str) -> str:
        return f"a larger {worded(along)} improves {metric} by {amount(at_least, metric)} at least{equal(matched_on)}"

    return Claim(words, source, (preferred(metrics),), at_least, _judge(along, matched_on, reaches, "at least", at_least))


def scaling_does_not_help(
    metrics: Metrics, *, at_most: float = 0.0, share: float = 0.0, source: str, along: str = "encoder_params_m",
    matched_on: tuple[str, ...] = ("decoder_params_m",),
) -> Claim:  # fmt: skip
    """That gain is at most `at_most`, or that `share` of the metric's mean over all settings (where scales of a study have metrics of
    different units); see `scaling_helps`."""

    def words(metric: str) -> str:
        most = f"{share:.0%} of itself" if share else amount(at_most, metric)
        return f"a larger {worded(along)} improves {metric} by no more than {most}{equal(matched_on)}"

    return Claim(words, source, (preferred(metrics),), share or at_most, _judge(along, matched_on, stays_within, "at most", at_most, share))


def _judge(along: str, matched_on: tuple[str, ...], decide: Callable[[float], Decide], asks: str, bound: float, share: float = 0.0):
    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        groups, x = _groups(found, along, matched_on)
        toward = sign(metric) * _slope(groups, x)
        bounds = interval(found.draws() @ toward)
        slope = f"{amount(float(found.values @ toward), metric, signed=True)} for each doubling of {worded(along)}"
        slope += f" ({bounds[0]:+.2g} to {bounds[1]:+.2g})"
        wanted = bound + share * float(found.values.mean())
        asked = f"a gain of {asks} {amount(wanted, metric)} is asked"
        return of_gain(found, _ends(groups, x), decide(wanted), asked, (f"the largest {worded(along)}", "the smallest"), slope)

    return judge


def _groups(found: Means, along: str, matched_on: tuple[str, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    """Which settings are of each group that has two values of the column; and all settings' log2 of it."""
    rows = found.rows
    lacking = sum(not float(row.get(along) or 0) > 0 for row in rows)
    if lacking:
        raise VitokError(f"{along} is no positive number in {lacking} of {len(rows)} settings")
    x = np.log2([float(row[along]) for row in rows])
    places = [tuple(str(row.get(column)) for column in matched_on) for row in rows]
    groups = [np.array([other == place for other in places]) for place in dict.fromkeys(places)]
    groups = [group for group in groups if np.ptp(x[group]) > 0]
    if not groups:
        raise VitokError(f"no two cells differ in {worded(along)}{equal(matched_on)}")
    return groups, x


def _ends(groups: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    weights = np.zeros(len(x))
    for group in groups:
        largest, smallest = group & (x == x[group].max()), group & (x == x[group].min())
        weights += largest / largest.sum() - smallest / smallest.sum()
    return weights / len(groups)


def _slope(groups: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """(settings,) The weights of the least-squares slope that the groups have in common."""
    centred = sum((group * (x - x[group].mean()) for group in groups), np.zeros(len(x)))
    return centred / (centred @ centred)
