"""The figure of trade-offs: all settings, and the Pareto front of those worth taking."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from vitok.analysis.fits.quantity import is_log_scaled
from vitok.analysis.pareto import UNITS, Setting, direction, pareto_front, settings_by_cost
from vitok.analysis.rows import Row
from vitok.metrics.registry import METRICS
from vitok.report.figures.style import COLOURS, MARKERS, axis_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_PER_ROW = 3
COST_LABELS = {"gmacs": "multiply-adds", "E": "E = L · c", "device_hours": "training", "train_seconds": "training", "params_m": "size"}
LABEL_SIZE = 8  # font size of a label, points
GREY = "#777777"


def pareto_fronts(rows: list[Row], pairs: tuple[tuple[str, str], ...]) -> "Figure":
    """Draw a panel for each pair of (cost, metric), or of two metrics.

    A mark is a setting, colour and shape by patch size, pale if another setting dominates it. The front is a step line with the names of
    its settings. Raises `VitokError` if no cell has both columns of a pair.
    """
    from matplotlib.figure import Figure

    across = min(PANELS_PER_ROW, len(pairs))
    down = -(-len(pairs) // across)
    figure = Figure(figsize=(4.8 * across, 4.2 * down + 0.4), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    found = [settings_by_cost(rows, *pair) for pair in pairs]
    patches = sorted({one.p for each in found for one in each if one.p is not None})
    for axis in axes[len(pairs) :]:
        axis.set_axis_off()
    for axis, (cost, metric), each in zip(axes, pairs, found, strict=False):
        _panel(axis, each, cost, metric, patches)
    figure.legend(handles=_legend(patches, found), loc="outside upper center", ncols=len(patches) + 3, frameon=False, fontsize=9)
    figure.draw_without_rendering()  # lays out the panels: label positions depend on it
    for axis, (cost, metric), each in zip(axes, pairs, found, strict=False):
        _annotate_front(axis, pareto_front(each, metric), cost, metric)
    return figure


def _panel(axis: "Axes", found: list[Setting], cost: str, metric: str, patches: list[int]) -> None:
    """Draw one pair of columns."""
    best = pareto_front(found, metric)
    x, y = np.array([[one.cost, one.value] for one in found]).T
    _set_scale(axis, "x", cost, x, 0.28 if direction(cost) < 0 else 0.08, 0.28 if direction(cost) > 0 else 0.08)
    _set_scale(axis, "y", metric, y, 0.12, 0.12)
    edge = axis.get_xlim()[direction(cost) < 0]  # the front continues to the edge: a larger budget buys no worse
    axis.plot(
        [*(one.cost for one in best), edge], [*(one.value for one in best), best[-1].value], color="#555555", linewidth=1,
        drawstyle="steps-post", zorder=2,
    )  # fmt: skip
    for one in found:
        colour, marker = _colour_and_marker(one.p, patches)
        axis.scatter(
            one.cost, one.value, s=46, color=colour, marker=marker, edgecolors="white", linewidths=0.8,
            alpha=1 if one in best else 0.3, zorder=3,
        )  # fmt: skip
    axis.set_xlabel(_column_label(cost))
    axis.set_ylabel(_column_label(metric))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _set_scale(panel: "Axes", way: Literal["x", "y"], column: str, values: np.ndarray, before: float, after: float) -> None:
    """Scale an axis: logarithmic for costs and distances, with margins as shares of the values' span, where labels stand."""
    from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullLocator

    logs = (column not in METRICS or is_log_scaled(column)) and values.min() > 0
    panel.set(**{f"{way}scale": "log" if logs else "linear"})
    axis = panel.xaxis if way == "x" else panel.yaxis
    to, back = axis.get_transform(), axis.get_transform().inverted()
    low, high = to.transform([values.min(), values.max()])
    span = (high - low) or abs(high) or 1.0
    low, high = back.transform([low - before * span, high + after * span]).tolist()
    panel.set(**{f"{way}lim": (low, high)})
    locator = LogLocator(subs=(1, 2, 5) if high > 20 * low else (1, 2, 3, 5)) if logs and high > 4 * low else AutoLocator()
    axis.set_ticks([value for value in locator.tick_values(low, high) if low <= value <= high])
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _annotate_front(axis: "Axes", best: list[Setting], cost: str, metric: str) -> None:
    """Label the settings of the front on its better side, where no marks are; labels that would overlap are shifted and get a line to their
    mark.
    """
    from matplotlib.patheffects import withStroke

    side, up = direction(cost), direction(metric)
    dots = axis.figure.dpi / 72
    boxes: list[tuple[float, float, float]] = []  # placed labels: left, right and middle, in dots
    for one in best:
        x, y = axis.transData.transform((one.cost, one.value))
        width, rise = 0.6 * LABEL_SIZE * len(one.label) * dots, 4 * up * dots
        left = x + (5 * dots if side > 0 else -5 * dots - width)
        while any(left < right and start < left + width and abs(y + rise - at) < 1.3 * LABEL_SIZE * dots for start, right, at in boxes):
            rise += up * dots
        boxes.append((left, left + width, y + rise))
        axis.annotate(
            one.label, (one.cost, one.value), (5 * side, rise / dots), textcoords="offset points", ha="left" if side > 0 else "right",
            va="center", fontsize=LABEL_SIZE, zorder=5, path_effects=[withStroke(linewidth=2, foreground="white")],
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.7} if abs(rise) > 8 * dots else None,
        )  # fmt: skip


def _column_label(column: str) -> str:
    """Return the axis label of a cost or a metric."""
    return axis_label(METRICS[column]) if column in METRICS else f"{COST_LABELS.get(column, column)} ({UNITS.get(column, column)}) ↓"


def _colour_and_marker(p: int | None, patches: list[int]) -> tuple[str, str]:
    """Return the colour and the marker of a patch size; None stands for a baseline."""
    if p is None:
        return GREY, "X"
    return COLOURS[patches.index(p) % 5], MARKERS[patches.index(p) % 5]


def _legend(patches: list[int], found: list[list[Setting]]) -> list["Artist"]:
    from matplotlib.lines import Line2D

    kinds: list[int | None] = [*patches, *([None] if any(one.p is None for each in found for one in each) else [])]
    marks = [(*_colour_and_marker(p, patches), 1.0, "others" if p is None else f"p = {p}") for p in kinds]
    shown = [
        Line2D([], [], color=colour, marker=marker, markersize=7, markeredgecolor="white", linewidth=0, alpha=alpha, label=label)
        for colour, marker, alpha, label in (*marks, (GREY, "o", 0.4, "beaten by another"))
    ]
    return [*shown, Line2D([], [], color="#555555", linewidth=1, label="front: the best for a budget")]
