"""Claims that some settings are better than others, or no better by more than a margin."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vitok.errors import VitokError
from vitok.study.claims.claim import (
    Claim,
    Decide,
    Judgement,
    Metrics,
    amount,
    exceeds,
    preferred,
    sentences,
    sign,
    stays_within,
    within,
)
from vitok.study.claims.effects import Means, means
from vitok.study.claims.seeds import IMAGES, settle
from vitok.study.fit import interval
from vitok.study.study import Row

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
