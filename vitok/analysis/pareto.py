"""Trade-off fronts: which cell to take for a budget, and which cells nobody should take.

A cell is on the front if no other is as good in both what it costs and what it reaches, and better in one. Cells that differ in their
seed alone are one setting, the mean of theirs: the luckiest seed is no better choice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitok.analysis.fits.cross_validation import steps
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS

UNITS = {
    "gmacs": "GMACs", "E": "floats", "device_hours": "device-hours", "train_seconds": "s", "params_m": "M parameters",
    "encoder_params_m": "M parameters of the encoder", "decoder_params_m": "M parameters of the decoder",
}  # fmt: skip
NAMED = 3  # beaten settings, at most


@dataclass(frozen=True)
class Setting:
    """Means over seeds."""

    label: str
    cost: float  # or another metric's value
    value: float  # of the metric
    seeds: int
    p: int | None  # None: no tokenizer of ours

    def beats(self, other: "Setting", cost: str, metric: str) -> bool:
        mine, others = ((better(cost) * one.cost, better(metric) * one.value) for one in (self, other))
        return mine != others and mine[0] >= others[0] and mine[1] >= others[1]


def better(column: str) -> int:
    """1: higher is better; -1: lower is, as of every cost."""
    return 1 if column in METRICS and METRICS[column].higher else -1


def setting(row: Row) -> str:
    """What a row has in common with those of other seeds: its column "setting", or its label without the seed."""
    return row["setting"] if "setting" in row else _name(row)


def settings(rows: list[Row], cost: str, metric: str) -> list[Setting]:
    """The settings of the cells that have both, cheapest first. `cost`: of which less is better ("gmacs", "E", "device_hours"), or another
    metric. Raises `VitokError` if no cell has both."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        full = row | {column: row.get(column, np.nan) for column in (cost, metric)}
        if np.isfinite([full[cost], full[metric]]).all():
            groups.setdefault(setting(row), []).append(full)
    if not groups:
        raise VitokError(f"no cell has both {cost} and {metric}: there is nothing to choose from")
    found = list[Setting]()
    for group in groups.values():
        spent, reached = (float(np.mean([row[column] for row in group])) for column in (cost, metric))
        found.append(Setting(_name(group[0]), spent, reached, len(group), group[0].get("p")))
    return sorted(found, key=lambda one: (-better(cost) * one.cost, -better(metric) * one.value))


def undominated(ordered: Sequence[Setting], metric: str) -> list[Setting]:
    """The Pareto-optimal ones of settings in the order of `settings`: each is better than those before; equals stand side by side."""
    found = list[Setting]()
    for one in ordered:
        last = found[-1] if found else None
        if last is None or better(metric) * (one.value - last.value) > 0 or (one.cost, one.value) == (last.cost, last.value):
            found.append(one)
    return found


def advice(rows: list[Row], cost: str, metric: str) -> list[str]:
    """Sentences: what to take for which budget, then what is not worth it and what beats it, `NAMED` settings at most. Settings whose
    costs are within 5 % count as of one cost, of which the best is named. Raises `VitokError` like `settings`.
    """
    found = settings(rows, cost, metric)
    best = undominated(found, metric)
    worth = best if cost in METRICS else list(dict(zip(steps(np.array([one.cost for one in best])), best, strict=True)).values())
    said = [_take(worth, i, cost, metric) for i in range(len(worth))]
    beaten = {one: [other for other in best if other.beats(one, cost, metric)] for one in found}
    losers = sorted((one for one in reversed(found) if beaten[one]), key=lambda one: -len(beaten[one]))
    for one in losers[:NAMED]:
        by = beaten[one][-1]
        said.append(
            f"{one.label} ({amount(metric, one.value)}, {amount(cost, one.cost)}) is not worth it: "
            f"{by.label} has {amount(metric, by.value)} at {amount(cost, by.cost)}."
        )
    more = len(losers) - NAMED
    return said + [f"{more} more {'is' if more == 1 else 'are'} beaten likewise."] * (more > 0)


def amount(column: str, value: float) -> str:
    """With its unit; of a metric that has none, with its name."""
    if column not in METRICS:
        return f"{f'{value:.0f}' if value >= 1000 else f'{value:.3g}'} {UNITS.get(column, column)}"
    unit = METRICS[column].unit
    return f"{value:.2f} {unit}" if unit else f"{column} {value:.3g}"


def _take(worth: list[Setting], i: int, cost: str, metric: str) -> str:
    one, higher = worth[i], better(cost) > 0
    what = f"take {one.label}: {amount(metric, one.value)}"
    if len(worth) == 1:
        return f"{'For both' if cost in METRICS else 'For any budget'} {what} ({amount(cost, one.cost)})."
    bound = amount(cost, worth[max(i, 1)].cost)
    if cost in METRICS:
        unless = f"If {cost} must be {'above' if higher else 'below'} {bound.removeprefix(cost + ' ')},"
        return f"{unless} {what} ({amount(cost, one.cost)})." if i == 0 else f"If {bound} will do, {what}."
    return f"With less than {bound} {what} ({amount(cost, one.cost)})." if i == 0 else f"From {bound} on {what}."


def _name(row: Row) -> str:
    return re.sub(r" \(DiT seed=\d+\)| seed=\d+", "", row["label"]) if "label" in row else row["setting"]
