"""Claims that some settings are better than others, or no better by more than a margin."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vitok.analysis.claims.claim import (
    Claim,
    Decide,
    Judgement,
    Metrics,
    amount,
    exceeds,
    preferred,
    reaches,
    sentences,
    sign,
    stays_within,
    within,
)
from vitok.analysis.claims.effects import Means, means
from vitok.analysis.claims.seeds import IMAGES, settle
from vitok.analysis.fits.log_linear import Interval, interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError

pass

Selection = Mapping[str, Any]  # column = value, or a tuple of values; numbers may be texts


def better(
    metrics: Metrics, of: Selection, than: Selection, *, source: str, by: float = 0.0, matched_on: tuple[str, ...] = (),
    name_of: str = "", name_than: str = "",
) -> Claim:  # fmt: skip
    """The mean of the cells `of` is better than that of the cells `than`, by more than `by` of the metric's unit.

    With `matched_on`, cells are compared where they are equal in these columns, and the gains of all such places are averaged.
    """
    first, second = name_of or told(of), name_than or told(than)

    def words(metric: str) -> str:
        return f"{metric} is better with {first} than with {second}" + (f" by {amount(by, metric)}" if by else "") + equal(matched_on)

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        asked = f"a gain of more than {amount(by, metric)} is asked"
        return of_gain(found, contrast(found, of, than, matched_on), exceeds(by), asked, (first, second))

    return Claim(words, source, (preferred(metrics),), by, judge)


def no_better(
    metrics: Metrics, of: Selection, than: Selection, *, at_most: float, source: str, matched_on: tuple[str, ...] = (), name_of: str = "",
    name_than: str = "",
) -> Claim:  # fmt: skip
    """The cells `of` gain at most `at_most` of the metric's unit over the cells `than`; see `better`."""
    first, second = name_of or told(of), name_than or told(than)

    def words(metric: str) -> str:
        return f"{metric} is no better with {first} than with {second}, by {amount(at_most, metric)} at most{equal(matched_on)}"

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        asked = f"a gain of at most {amount(at_most, metric)} is asked"
        return of_gain(found, contrast(found, of, than, matched_on), stays_within(at_most), asked, (first, second))

    return Claim(words, source, (preferred(metrics),), at_most, judge)


def of_gain(found: Means, weights: np.ndarray, decide: Decide, asked: str, names: tuple[str, str], effect: str = "") -> Judgement:
    """Of a weighted sum of means: `weights` (settings,) sum to 1 where they are positive and to -1 where they are negative."""
    metric, toward = found.metric, sign(found.metric) * weights
    settled = settle(
        lambda more: interval(found.draws(more) @ toward), decide, found.deviation is not None, IMAGES if found.images is not None else ""
    )
    gain = float(found.values @ toward)
    sides = (float(found.values @ np.clip(weights, 0, None)), float(found.values @ np.clip(-weights, 0, None)))
    compared = f"{metric} {sides[0]:.4g} with {names[0]}, {sides[1]:.4g} with {names[1]}"
    said = f"a gain of {amount(gain, metric, signed=True)} {within(settled.interval, found.over)}"
    evidence = sentences(compared + ": " + said, effect, asked, *found.notes, settled.reason)
    size = sentences(effect, cohens_d(found, toward, gain))
    return Judgement(settled.verdict, evidence, gain, settled.interval, size, settled.seeds_needed)


def cohens_d(found: Means, toward: np.ndarray, gain: float) -> str:
    """The gain in deviations of seeds, else of what the images gain each."""
    if found.scatter is not None:
        deviation, what = float(np.sqrt(np.square(found.scatter[toward != 0]).mean())), "seeds"
    else:
        assert found.images is not None
        deviation, what = float((toward @ found.images).std(ddof=1)), "images' gains"
    return f"Cohen's d = {gain / deviation:.2g} (deviations of {what})" if deviation else f"{amount(gain, found.metric, signed=True)}"


def contrast(found: Means, of: Selection, than: Selection, matched_on: tuple[str, ...] = ()) -> np.ndarray:
    """(settings,) The weights of the gain of some settings over others. Raises `VitokError` if there are none to compare."""
    firsts, seconds = chosen(found.rows, of), chosen(found.rows, than)
    for selection, some in ((of, firsts), (than, seconds)):
        if not some.any():
            raise VitokError(f"{found.metric} was measured in no cell with {told(selection)}")
    places = [tuple(str(row.get(column)) for column in matched_on) for row in found.rows]
    weights, shared = np.zeros(len(places)), 0
    for place in dict.fromkeys(places):
        here = np.array([other == place for other in places])
        if (here & firsts).any() and (here & seconds).any():
            weights += (here & firsts) / (here & firsts).sum() - (here & seconds) / (here & seconds).sum()
            shared += 1
    if not shared:
        raise VitokError(f"no cells with {told(of)} and with {told(than)} are equal in {', '.join(matched_on)}")
    return weights / shared


def chosen(rows: list[Row], selection: Selection) -> np.ndarray:
    """(rows,) Whether each is selected."""
    return np.array([all(_same(row.get(column), value) for column, value in selection.items()) for row in rows], dtype=bool)


def told(selection: Selection) -> str:
    return ", ".join(f"{worded(name)} = {_value(value)}" for name, value in selection.items())


def equal(columns: tuple[str, ...]) -> str:
    return f", at equal {' and '.join(map(worded, columns))}" if columns else ""


def worded(name: str) -> str:
    return _WORDS.get(name, name)


_WORDS = {
    "encoder_params_m": "encoder size", "decoder_params_m": "decoder size", "params_m": "size of the model", "gmacs": "compute",
    "loss.lpips": "LPIPS weight", "loss.reconstruction": "loss", "gan.weight": "GAN weight", "gan.lr": "discriminator lr",
    "frames": "number of frames", "size": "image size",
}  # fmt: skip


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return " or ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _same(known: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple):
        return any(_same(known, one) for one in wanted)
    try:
        return float(known) == float(wanted)
    except (TypeError, ValueError):
        return str(known).lower() == str(wanted).lower()


def ranked_first(metrics: Metrics, best: Selection, *, source: str, among: Selection | None = None, name: str = "") -> Claim:
    """The setting `best` (the mean of several) is better than every other of `among`; without it than every other of the study.

    The value is the gain over the next best. Its lower end is the least of the gains' lower ends over each other setting; its upper
    end the least of their upper ends, at 2.5 % divided by their number, for each could be that low by chance.
    """
    first = name or told(best)

    def words(metric: str) -> str:
        return f"{first} has the best {metric}" + (f" with {told(among)}" if among else "")

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        is_best = chosen(found.rows, best)
        others = np.flatnonzero(chosen(found.rows, among or {}) & ~is_best)
        if not is_best.any() or not len(others):
            raise VitokError(f"{metric} was measured in {int(is_best.sum())} settings with {told(best)} and {len(others)} others")
        toward = sign(metric) * (is_best / is_best.sum() - np.eye(len(found.values))[others])  # (others, settings)

        def known(more: float) -> Interval:
            gains = found.draws(more) @ toward.T
            low, high = np.quantile(gains, 0.025, axis=0), np.quantile(gains, 1 - 0.025 / len(others), axis=0)
            return float(low.min()), float(high.min())

        settled = settle(known, exceeds(0), found.deviation is not None, IMAGES if found.images is not None else "")
        gains = toward @ found.values
        next_best = int(np.argmin(gains))
        gain, row = float(gains[next_best]), found.rows[others[next_best]]
        firsts = float(np.mean((found.draws() @ toward.T > 0).all(axis=1)))
        evidence = sentences(
            f"over {row.get('setting', row['cell'])}, the best of {len(others)} other settings, {first} gains "
            f"{amount(gain, metric, signed=True)} {within(settled.interval, found.over)}",
            f"it is first in {firsts:.1%} of draws", *found.notes, settled.reason,
        )  # fmt: skip
        return Judgement(settled.verdict, evidence, gain, settled.interval, cohens_d(found, toward[next_best], gain), settled.seeds_needed)

    return Claim(words, source, (preferred(metrics),), 0.0, judge)


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
