"""Pareto fronts of cost and quality: the settings worth taking for a budget, and those that another setting dominates.

A setting is on the front if no other is as good in both cost and metric, and better in one. Cells that differ in their seed alone are one
setting with their mean values: a lucky seed is no better choice.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitok.analysis.fits.cross_validation import value_groups
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS

UNITS = {
    "gmacs": "GMACs", "E": "floats", "device_hours": "device-hours", "train_seconds": "s", "params_m": "M parameters",
    "encoder_params_m": "M parameters of the encoder", "decoder_params_m": "M parameters of the decoder",
}  # fmt: skip
MAX_DOMINATED_NAMED = 3  # dominated settings named in the advice, at most


@dataclass(frozen=True)
class Setting:
    """A setting with the mean cost and metric over its seeds."""

    label: str
    cost: float  # mean cost, or mean of another metric
    value: float  # mean of the metric
    seeds: int
    p: int | None  # patch size; None for a baseline

    def dominates(self, other: "Setting", cost: str, metric: str) -> bool:
        """Return whether this setting is at least as good as the other in both columns, and better in one."""
        mine, others = ((direction(cost) * one.cost, direction(metric) * one.value) for one in (self, other))
        return mine != others and mine[0] >= others[0] and mine[1] >= others[1]


def direction(column: str) -> int:
    """Return 1 if a higher value of the column is better, -1 if a lower one is, as for every cost."""
    return 1 if column in METRICS and METRICS[column].higher else -1


def setting_name(row: Row) -> str:
    """Return the name that a row shares with those of other seeds: its column "setting", or its label without the seed."""
    return row["setting"] if "setting" in row else _name_without_seed(row)


def settings_by_cost(rows: list[Row], cost: str, metric: str) -> list[Setting]:
    """Return the settings whose cells have both the cost and the metric, cheapest first.

    `cost` is a column of which less is better ("gmacs", "E", "device_hours"), or another metric. Raises `VitokError` if no cell has both.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        full = row | {column: row.get(column, np.nan) for column in (cost, metric)}
        if np.isfinite([full[cost], full[metric]]).all():
            groups.setdefault(setting_name(row), []).append(full)
    if not groups:
        raise VitokError(f"no cell has both {cost} and {metric}: there is nothing to choose from")
    found = list[Setting]()
    for group in groups.values():
        spent, reached = (float(np.mean([row[column] for row in group])) for column in (cost, metric))
        found.append(Setting(_name_without_seed(group[0]), spent, reached, len(group), group[0].get("p")))
    return sorted(found, key=lambda one: (-direction(cost) * one.cost, -direction(metric) * one.value))


def pareto_front(ordered: Sequence[Setting], metric: str) -> list[Setting]:
    """Return the Pareto-optimal ones of settings that are ordered as by `settings_by_cost`. Settings with equal values are all kept."""
    found = list[Setting]()
    for one in ordered:
        last = found[-1] if found else None
        if last is None or direction(metric) * (one.value - last.value) > 0 or (one.cost, one.value) == (last.cost, last.value):
            found.append(one)
    return found


def advice(rows: list[Row], cost: str, metric: str) -> list[str]:
    """Return sentences on the setting to take for each budget, then on at most three (`MAX_DOMINATED_NAMED`) dominated settings and what
    dominates them.

    Settings whose costs are within 5 % of each other count as one cost, of which the best is named. Raises `VitokError` if no cell has both
    the cost and the metric.
    """
    found = settings_by_cost(rows, cost, metric)
    best = pareto_front(found, metric)
    worth = best if cost in METRICS else list(dict(zip(value_groups(np.array([one.cost for one in best])), best, strict=True)).values())
    said = [_recommendation_text(worth, i, cost, metric) for i in range(len(worth))]
    beaten = {one: [other for other in best if other.dominates(one, cost, metric)] for one in found}
    losers = sorted((one for one in reversed(found) if beaten[one]), key=lambda one: -len(beaten[one]))
    for one in losers[:MAX_DOMINATED_NAMED]:
        by = beaten[one][-1]
        said.append(
            f"{one.label} ({format_value(metric, one.value)}, {format_value(cost, one.cost)}) is not worth it: "
            f"{by.label} has {format_value(metric, by.value)} at {format_value(cost, by.cost)}."
        )
    more = len(losers) - MAX_DOMINATED_NAMED
    return said + [f"{more} more {'is' if more == 1 else 'are'} beaten likewise."] * (more > 0)


def format_value(column: str, value: float) -> str:
    """Format a value with its unit; a metric that has no unit with its name."""
    if column not in METRICS:
        return f"{f'{value:.0f}' if value >= 1000 else f'{value:.3g}'} {UNITS.get(column, column)}"
    unit = METRICS[column].unit
    return f"{value:.2f} {unit}" if unit else f"{column} {value:.3g}"


def _recommendation_text(worth: list[Setting], i: int, cost: str, metric: str) -> str:
    """Return the sentence that recommends setting `i` of those worth taking."""
    one, higher = worth[i], direction(cost) > 0
    what = f"take {one.label}: {format_value(metric, one.value)}"
    if len(worth) == 1:
        return f"{'For both' if cost in METRICS else 'For any budget'} {what} ({format_value(cost, one.cost)})."
    bound = format_value(cost, worth[max(i, 1)].cost)
    if cost in METRICS:
        unless = f"If {cost} must be {'above' if higher else 'below'} {bound.removeprefix(cost + ' ')},"
        return f"{unless} {what} ({format_value(cost, one.cost)})." if i == 0 else f"If {bound} will do, {what}."
    return f"With less than {bound} {what} ({format_value(cost, one.cost)})." if i == 0 else f"From {bound} on {what}."


def _name_without_seed(row: Row) -> str:
    """Return a row's label without its seeds."""
    return re.sub(r" \(DiT seed=\d+\)| seed=\d+", "", row["label"]) if "label" in row else row["setting"]
