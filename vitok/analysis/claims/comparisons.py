"""Claims that some settings are better than others, or no better by more than a margin."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vitok.analysis.claims.claim import (
    Claim,
    DecisionRule,
    Judgement,
    MetricPreference,
    canonical_names,
    direction,
    exceeds,
    format_value,
    interval_text,
    join_sentences,
    reaches,
    stays_within,
)
from vitok.analysis.claims.seeds import MORE_IMAGES, seeds_to_decide
from vitok.analysis.claims.setting_means import SettingMeans, means
from vitok.analysis.fits.bootstrap import Interval, percentile_interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError

Selection = Mapping[str, Any]  # column = value, or a tuple of values; numbers may be texts


def better(
    metrics: MetricPreference, of: Selection, than: Selection, *, source: str, by: float = 0.0, matched_on: tuple[str, ...] = (),
    name_of: str = "", name_than: str = "",
) -> Claim:  # fmt: skip
    """Claim that the mean of the cells `of` is better than the mean of the cells `than`, by more than `by` in the metric's unit.

    With `matched_on`, cells are compared where these columns are equal, and the gains at all such places are averaged. `name_of` and
    `name_than` name the two sides in the statement.
    """
    first, second = name_of or describe_selection(of), name_than or describe_selection(than)

    def wording(metric: str) -> str:
        return (
            f"{metric} is better with {first} than with {second}"
            + (f" by {format_value(by, metric)}" if by else "")
            + matched_words(matched_on)
        )

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        asked = f"a gain of more than {format_value(by, metric)} is asked"
        return judge_gain(found, contrast_weights(found, of, than, matched_on), exceeds(by), asked, (first, second))

    return Claim(wording, source, (canonical_names(metrics),), by, judge)


def no_better(
    metrics: MetricPreference, of: Selection, than: Selection, *, at_most: float, source: str, matched_on: tuple[str, ...] = (),
    name_of: str = "", name_than: str = "",
) -> Claim:  # fmt: skip
    """Claim that the cells `of` gain at most `at_most`, in the metric's unit, over the cells `than`.

    The other parameters are those of `better`.
    """
    first, second = name_of or describe_selection(of), name_than or describe_selection(than)

    def wording(metric: str) -> str:
        return (
            f"{metric} is no better with {first} than with {second}, by {format_value(at_most, metric)} at most{matched_words(matched_on)}"
        )

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        asked = f"a gain of at most {format_value(at_most, metric)} is asked"
        return judge_gain(found, contrast_weights(found, of, than, matched_on), stays_within(at_most), asked, (first, second))

    return Claim(wording, source, (canonical_names(metrics),), at_most, judge)


def judge_gain(
    found: SettingMeans, weights: np.ndarray, decide: DecisionRule, asked: str, names: tuple[str, str], effect: str = ""
) -> Judgement:
    """Judge a gain: a weighted sum of the settings' means. `weights` (settings,) sum to 1 where positive, to -1 where negative."""
    metric, toward = found.metric, direction(found.metric) * weights
    settled = seeds_to_decide(
        lambda more: percentile_interval(found.draws(more) @ toward),
        decide,
        found.deviation is not None,
        MORE_IMAGES if found.images is not None else "",
    )
    gain = float(found.values @ toward)
    sides = (float(found.values @ np.clip(weights, 0, None)), float(found.values @ np.clip(-weights, 0, None)))
    compared = f"{metric} {sides[0]:.4g} with {names[0]}, {sides[1]:.4g} with {names[1]}"
    said = f"a gain of {format_value(gain, metric, signed=True)} {interval_text(settled.interval, found.over)}"
    evidence = join_sentences(compared + ": " + said, effect, asked, *found.notes, settled.reason)
    size = join_sentences(effect, cohens_d(found, toward, gain))
    return Judgement(settled.verdict, evidence, gain, settled.interval, size, settled.seeds_needed)


def cohens_d(found: SettingMeans, toward: np.ndarray, gain: float) -> str:
    """Return Cohen's d in words: the gain over the deviation of seeds or, without seeds, over the deviation of the images' gains."""
    if found.scatter is not None:
        deviation, what = float(np.sqrt(np.square(found.scatter[toward != 0]).mean())), "seeds"
    else:
        assert found.images is not None
        deviation, what = float((toward @ found.images).std(ddof=1)), "images' gains"
    return f"Cohen's d = {gain / deviation:.2g} (deviations of {what})" if deviation else f"{format_value(gain, found.metric, signed=True)}"


def contrast_weights(found: SettingMeans, of: Selection, than: Selection, matched_on: tuple[str, ...] = ()) -> np.ndarray:
    """Return the weights (settings,) of the gain of the cells `of` over the cells `than`. Raises `VitokError` if there is nothing to
    compare.
    """
    firsts, seconds = selection_mask(found.rows, of), selection_mask(found.rows, than)
    for selection, some in ((of, firsts), (than, seconds)):
        if not some.any():
            raise VitokError(f"{found.metric} was measured in no cell with {describe_selection(selection)}")
    places = [tuple(str(row.get(column)) for column in matched_on) for row in found.rows]
    weights, shared = np.zeros(len(places)), 0
    for place in dict.fromkeys(places):
        here = np.array([other == place for other in places])
        if (here & firsts).any() and (here & seconds).any():
            weights += (here & firsts) / (here & firsts).sum() - (here & seconds) / (here & seconds).sum()
            shared += 1
    if not shared:
        raise VitokError(f"no cells with {describe_selection(of)} and with {describe_selection(than)} are equal in {', '.join(matched_on)}")
    return weights / shared


def selection_mask(rows: list[Row], selection: Selection) -> np.ndarray:
    """Return a mask (rows,) of the rows that have the selected values."""
    return np.array([all(_matches(row.get(column), value) for column, value in selection.items()) for row in rows], dtype=bool)


def describe_selection(selection: Selection) -> str:
    """Describe a selection in words, such as "decoder size = 85.8, stage = 1 or 2"."""
    return ", ".join(f"{column_words(name)} = {_value_text(value)}" for name, value in selection.items())


def matched_words(columns: tuple[str, ...]) -> str:
    """Describe the columns that are held equal in words; "" for none."""
    return f", at equal {' and '.join(map(column_words, columns))}" if columns else ""


def column_words(name: str) -> str:
    """Return the name of a column in words."""
    return _COLUMN_WORDS.get(name, name)


_COLUMN_WORDS = {
    "encoder_params_m": "encoder size", "decoder_params_m": "decoder size", "params_m": "size of the model", "gmacs": "compute",
    "loss.lpips": "LPIPS weight", "loss.reconstruction": "loss", "gan.weight": "GAN weight", "gan.lr": "discriminator lr",
    "frames": "number of frames", "size": "image size",
}  # fmt: skip


def _value_text(value: Any) -> str:
    """Return a selected value, or several joined by "or"."""
    if isinstance(value, tuple):
        return " or ".join(map(_value_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _matches(known: Any, wanted: Any) -> bool:
    """Return whether a value is the wanted one, or one of several. Numbers compare as numbers, texts regardless of case."""
    if isinstance(wanted, tuple):
        return any(_matches(known, one) for one in wanted)
    try:
        return float(known) == float(wanted)
    except (TypeError, ValueError):
        return str(known).lower() == str(wanted).lower()


def ranked_first(metrics: MetricPreference, best: Selection, *, source: str, among: Selection | None = None, name: str = "") -> Claim:
    """Claim that the setting `best` (the mean, if it selects several) is better than every other setting of `among`, or of the study.

    The value is the gain over the next best setting. The interval's lower end is the least of the lower ends of the gains over each other
    setting. Its upper end is the least of their upper ends, taken at 2.5 % divided by their number, since any of them could be that low by
    chance.
    """
    first = name or describe_selection(best)

    def wording(metric: str) -> str:
        return f"{first} has the best {metric}" + (f" with {describe_selection(among)}" if among else "")

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        is_best = selection_mask(found.rows, best)
        others = np.flatnonzero(selection_mask(found.rows, among or {}) & ~is_best)
        if not is_best.any() or not len(others):
            raise VitokError(
                f"{metric} was measured in {int(is_best.sum())} settings with {describe_selection(best)} and {len(others)} others"
            )
        toward = direction(metric) * (is_best / is_best.sum() - np.eye(len(found.values))[others])  # (others, settings)

        def interval_with(more: float) -> Interval:
            gains = found.draws(more) @ toward.T
            low, high = np.quantile(gains, 0.025, axis=0), np.quantile(gains, 1 - 0.025 / len(others), axis=0)
            return float(low.min()), float(high.min())

        settled = seeds_to_decide(interval_with, exceeds(0), found.deviation is not None, MORE_IMAGES if found.images is not None else "")
        gains = toward @ found.values
        next_best = int(np.argmin(gains))
        gain, row = float(gains[next_best]), found.rows[others[next_best]]
        firsts = float(np.mean((found.draws() @ toward.T > 0).all(axis=1)))
        evidence = join_sentences(
            f"over {row.get('setting', row['cell'])}, the best of {len(others)} other settings, {first} gains "
            f"{format_value(gain, metric, signed=True)} {interval_text(settled.interval, found.over)}",
            f"it is first in {firsts:.1%} of draws", *found.notes, settled.reason,
        )  # fmt: skip
        return Judgement(settled.verdict, evidence, gain, settled.interval, cohens_d(found, toward[next_best], gain), settled.seeds_needed)

    return Claim(wording, source, (canonical_names(metrics),), 0.0, judge)


def scaling_helps(
    metrics: MetricPreference,
    *,
    at_least: float,
    source: str,
    along: str = "decoder_params_m",
    matched_on: tuple[str, ...] = ("encoder_params_m",),
) -> Claim:
    """Claim that the metric gains at least `at_least`, in its unit, from the smallest to the largest value of the column `along`.

    The gain is the mean over all groups of cells that are equal in `matched_on`. The effect is the slope for each doubling of the column
    within those groups.
    """

    def wording(metric: str) -> str:
        return f"a larger {column_words(along)} improves {metric} by {format_value(at_least, metric)} at least{matched_words(matched_on)}"

    return Claim(wording, source, (canonical_names(metrics),), at_least, _judge_scaling(along, matched_on, reaches, "at least", at_least))


def scaling_does_not_help(
    metrics: MetricPreference, *, at_most: float = 0.0, share: float = 0.0, source: str, along: str = "encoder_params_m",
    matched_on: tuple[str, ...] = ("decoder_params_m",),
) -> Claim:  # fmt: skip
    """Claim that the metric gains at most `at_most`, in its unit, from the smallest to the largest value of the column `along`.

    With `share`, the bound is that share of the metric's mean over all settings: for studies whose scales measure metrics of different
    units. See `scaling_helps`.
    """

    def wording(metric: str) -> str:
        most = f"{share:.0%} of itself" if share else format_value(at_most, metric)
        return f"a larger {column_words(along)} improves {metric} by no more than {most}{matched_words(matched_on)}"

    return Claim(
        wording,
        source,
        (canonical_names(metrics),),
        share or at_most,
        _judge_scaling(along, matched_on, stays_within, "at most", at_most, share),
    )


def _judge_scaling(
    along: str, matched_on: tuple[str, ...], decide: Callable[[float], DecisionRule], asks: str, bound: float, share: float = 0.0
):
    """Return the judge of a gain along a column, held against `bound` plus `share` of the metric's mean."""

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        groups, x = _matched_groups(found, along, matched_on)
        toward = direction(metric) * _slope_weights(groups, x)
        bounds = percentile_interval(found.draws() @ toward)
        slope = f"{format_value(float(found.values @ toward), metric, signed=True)} for each doubling of {column_words(along)}"
        slope += f" ({bounds[0]:+.2g} to {bounds[1]:+.2g})"
        wanted = bound + share * float(found.values.mean())
        asked = f"a gain of {asks} {format_value(wanted, metric)} is asked"
        return judge_gain(
            found, _extreme_weights(groups, x), decide(wanted), asked, (f"the largest {column_words(along)}", "the smallest"), slope
        )

    return judge


def _matched_groups(found: SettingMeans, along: str, matched_on: tuple[str, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    """Return a mask (settings,) for each matched group that has two values of the column, and log2 of the column (settings,)."""
    rows = found.rows
    lacking = sum(not float(row.get(along) or 0) > 0 for row in rows)
    if lacking:
        raise VitokError(f"{along} is no positive number in {lacking} of {len(rows)} settings")
    x = np.log2([float(row[along]) for row in rows])
    places = [tuple(str(row.get(column)) for column in matched_on) for row in rows]
    groups = [np.array([other == place for other in places]) for place in dict.fromkeys(places)]
    groups = [group for group in groups if np.ptp(x[group]) > 0]
    if not groups:
        raise VitokError(f"no two cells differ in {column_words(along)}{matched_words(matched_on)}")
    return groups, x


def _extreme_weights(groups: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the weights (settings,) of the gain from the smallest to the largest value, averaged over the groups."""
    weights = np.zeros(len(x))
    for group in groups:
        largest, smallest = group & (x == x[group].max()), group & (x == x[group].min())
        weights += largest / largest.sum() - smallest / smallest.sum()
    return weights / len(groups)


def _slope_weights(groups: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return the weights (settings,) of the least-squares slope that the groups have in common."""
    centred = sum((group * (x - x[group].mean()) for group in groups), np.zeros(len(x)))
    return centred / (centred @ centred)
