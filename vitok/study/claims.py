"""The paper's statements as claims that measured cells support, do not support, or leave open. Never without an interval."""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from vitok.errors import VitokError
from vitok.study.fit import Interval, interval, log_linear, resamples
from vitok.study.study import Row


@dataclass(frozen=True)
class Verdict:
    claim: str
    source: str
    verdict: Literal["supported", "not supported", "inconclusive"]
    evidence: str
    value: float
    interval: Interval
    bound: float

    def json(self) -> dict[str, Any]:
        """What is not known is null: JSON has no NaN."""
        found = asdict(self)
        return found | {"value": _number(self.value), "interval": [_number(bound) for bound in self.interval]}


Claim = Callable[[list[Row]], Verdict]


def grows_with_floats(metric: str, at_least: float, source: str) -> Claim:
    """Pearson's r between a metric and log2 E reaches a bound."""

    def judge(rows: list[Row]) -> Verdict:
        try:
            fit = log_linear(rows, metric)
        except VitokError as error:
            return undecided(f"{metric} grows linearly with log E", source, str(error), at_least)
        low, high = fit.pearson_r_interval
        verdict = "supported" if low >= at_least else "not supported" if high < at_least else "inconclusive"
        evidence = (
            f"Pearson r = {fit.pearson_r:.3f} (95 % interval {low:.3f} to {high:.3f}) over {fit.cells} cells, "
            f"{fit.slope:+.2f} for each doubling of E; r of at least {at_least:g} is asked"
        )
        return Verdict(f"{metric} grows linearly with log E", source, verdict, evidence, fit.pearson_r, (low, high), at_least)

    return judge


def shape_is_free(metric: str, at_most: float, source: str) -> Claim:
    """At equal E, what another patch size changes is worth less than `at_most` doublings of E.

    The gap between the best and the worst patch size at each shared E, averaged, in units of the fitted slope; its
    interval comes from resampling the held-out images, which all cells saw alike.
    """

    def judge(rows: list[Row]) -> Verdict:
        rows = [row for row in rows if metric in row]
        if not rows:
            return undecided(_SHAPE.format(metric), source, f"{metric} was measured, by one protocol, in no cell", at_most)
        values = {row["cell"]: np.array(row["per_image"][metric]) for row in rows}
        count = min(len(v) for v in values.values())
        everything = _gap(rows, values, np.arange(count))
        if everything is None:
            return undecided(_SHAPE.format(metric), source, "no two patch sizes share a value of E", at_most)
        draws = [gap for pick in resamples(count, lambda _: True) if (gap := _gap(rows, values, pick)) is not None]
        low, high = interval(draws)
        verdict = "supported" if high <= at_most else "not supported" if low > at_most else "inconclusive"
        evidence = (
            f"at equal E the patch size changes {metric} by as much as {everything:.2f} doublings of E would "
            f"(95 % interval {low:.2f} to {high:.2f} over {count} held-out images); at most {at_most:g} is asked"
        )
        return Verdict(_SHAPE.format(metric), source, verdict, evidence, everything, (low, high), at_most)

    return judge


def undecided(claim: str, source: str, reason: str, bound: float) -> Verdict:
    """What cannot be judged."""
    return Verdict(claim, source, "inconclusive", reason, float("nan"), (float("nan"), float("nan")), bound)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


_SHAPE = "{}: at equal E the code's shape hardly matters"


def _gap(rows: list[Row], values: dict[str, np.ndarray], pick: np.ndarray) -> float | None:
    means = {cell: float(value[pick].mean()) for cell, value in values.items()}
    shared: dict[float, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        shared[row["E"]][row["p"]].append(means[row["cell"]])
    gaps = [np.ptp([np.mean(group) for group in groups.values()]) for groups in shared.values() if len(groups) > 1]
    if not gaps:
        return None
    slope = np.polyfit(np.log2([row["E"] for row in rows]), [means[row["cell"]] for row in rows], 1)[0]
    return float(np.mean(gaps) / abs(slope))
