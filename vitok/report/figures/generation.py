"""The figure of generation against E: a parabola and an optimum for each patch size, as the paper draws it (Figure 4)."""

from typing import TYPE_CHECKING

import numpy as np

from vitok.analysis.fits.parabola import Parabolas
from vitok.analysis.fits.quantity import fitted_rows, is_log_scaled
from vitok.analysis.rows import Row
from vitok.metrics.registry import METRICS
from vitok.report.figures.style import COLOURS, MARKERS, axis_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS_PER_ROW = 3
LANE_HEIGHT = 0.055  # height of the lane of one patch size's optimum below the marks, as a share of the panel
# side of a mark where its c stands, by patch size, since marks overlap: (alignment, x offset, up)
LABEL_SIDES = (
    ("left", 7, 0),
    ("center", 0, -1),
    ("right", -7, 0),
    ("center", 0, 1),
)


def generation_over_floats(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Parabolas]) -> "Figure":
    """Draw each metric against E on a log2 axis with a parabola and its band for each patch size (Figure 4).

    A mark is a cell, labelled with its c; colour and shape show the patch size. Below the marks each patch size has a lane: a diamond at
    its optimum and a bar over the 95 % interval. An open diamond has no bounded interval.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    across = min(PANELS_PER_ROW, len(metrics))
    down = -(-len(metrics) // across)
    figure = Figure(figsize=(4.8 * across, 4.3 * down + 0.4), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    patches = sorted({row["p"] for row in rows})
    floats = np.array(sorted({row["E"] for row in rows}), dtype=float)
    for axis in axes[len(metrics) :]:
        axis.set_axis_off()
    for axis, metric in zip(axes, metrics, strict=False):
        axis.set_gid(f"E:{metric}")
        axis.set_xscale("log", base=2)
        axis.set_yscale("log" if is_log_scaled(metric) else "linear")
        axis.set_xlim(floats[0] / 1.5, floats[-1] * 1.5)
        _panel(axis, rows, patches, metric, fits.get(metric))
        axis.xaxis.set_major_locator(FixedLocator(floats.tolist()))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.tick_params(axis="x", labelrotation=45 if len(floats) > 6 else 0)
        axis.set_xlabel("E = L · c (floats of the latent)")
        axis.set_ylabel(axis_label(METRICS[metric]))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=_legend(patches, fits), loc="outside upper center", ncols=3 * across - (across == 1), frameon=False, fontsize=9)
    return figure


def _panel(axis: "Axes", rows: list[Row], patches: list[int], metric: str, curves: Parabolas | None) -> None:
    """Draw one metric."""
    usable = [row | {metric: np.exp(row[metric]) if is_log_scaled(metric) else row[metric]} for row in fitted_rows(rows, metric)[0]]
    if not usable:
        return
    _set_y_range(axis, [row[metric] for row in usable], len(patches) if curves else 0)
    for i, patch in enumerate(patches):
        group = [row for row in usable if row["p"] == patch]
        axis.scatter(
            [row["E"] for row in group], [row[metric] for row in group], s=46, color=COLOURS[i % 5], marker=MARKERS[i % 5],
            edgecolors="white", linewidths=0.8, zorder=3,
        )  # fmt: skip
        _annotate_channels(axis, group, metric, i)
        if curves and patch in curves.parabolas:
            _curve(axis, curves, patch, COLOURS[i % 5])
            _optimum(axis, curves, patch, COLOURS[i % 5], (len(patches) - i - 0.5) * LANE_HEIGHT)


def _annotate_channels(axis: "Axes", group: list[Row], metric: str, i: int) -> None:
    """Label each E once with its c, beside the seed nearest to the label's side."""
    from matplotlib.patheffects import withStroke

    align, x, up = LABEL_SIDES[i % 4]
    for floats in {row["E"]: None for row in group}:
        seeds = sorted((row for row in group if row["E"] == floats), key=lambda row: row[metric])
        mark = seeds[{-1: 0, 0: len(seeds) // 2, 1: -1}[up]]
        axis.annotate(
            f"{mark['c']:g}", (floats, mark[metric]), (x, 7 * up), textcoords="offset points", ha=align,
            va=("center", "bottom", "top")[up], fontsize=7, color=COLOURS[i % 5], zorder=5,
            path_effects=[withStroke(linewidth=1.8, foreground="white")],
        )  # fmt: skip


def _set_y_range(axis: "Axes", values: list[float], lanes: int) -> None:
    """Set the range of the y axis to the marks with a margin and the lanes below them, whatever the bands need."""
    from matplotlib.ticker import AutoLocator, FuncFormatter, LogLocator, NullLocator

    to, back = axis.yaxis.get_transform(), axis.yaxis.get_transform().inverted()
    low, high = to.transform([min(values), max(values)])
    span = (high - low) or abs(high) or 1.0
    low, high = low - 0.13 * span, high + 0.13 * span
    floor, bottom = low, low - (high - low) * lanes * LANE_HEIGHT / (1 - lanes * LANE_HEIGHT)
    bottom, floor, top = back.transform([bottom, floor, high]).tolist()
    axis.set_ylim(bottom, top)
    if lanes:
        axis.axhspan(bottom, floor, facecolor="white", edgecolor="#cccccc", zorder=1.2)  # above bands, below the grid
    locator = LogLocator(subs=(1, 2, 5)) if axis.get_yscale() == "log" and top > 6 * floor else AutoLocator()
    axis.set_yticks([value for value in locator.tick_values(floor, top) if floor <= value <= top])
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _curve(axis: "Axes", curves: Parabolas, patch: int, colour: str) -> None:
    """Draw a patch size's parabola and band."""
    along = np.geomspace(*curves.parabolas[patch].measured, 60)
    curve, low, high = curves.predict(patch, along)
    if np.isfinite(low).all():
        low, high = np.clip([low, high], *axis.get_ylim())  # the band may exceed every float
        axis.fill_between(along, low, high, color=colour, alpha=0.1, linewidth=0)
    axis.plot(along, curve, color=colour, linewidth=1.2)


def _optimum(axis: "Axes", curves: Parabolas, patch: int, colour: str, height: float) -> None:
    """Draw a patch size's optimum and its interval at this height of the panel."""
    one, lane, scale = curves.parabolas[patch], axis.get_xaxis_transform(), axis.yaxis.get_transform()  # lane: y of the panel
    left, right = axis.get_xlim()
    if one.optimum is None or not left < one.optimum < right:
        return
    if one.optimum_interval:
        axis.plot(np.clip(one.optimum_interval, left, right), [height] * 2, color=colour, linewidth=1.6, transform=lane, zorder=3)
    fill = colour if one.optimum_interval else "white"
    axis.plot(one.optimum, height, "D", markersize=5, markerfacecolor=fill, markeredgecolor=colour, transform=lane, zorder=4)
    if one.measured[0] < one.optimum < one.measured[1]:
        curve = float(curves.predict(patch, np.array([one.optimum]))[0][0])
        below, above, top = scale.transform([*axis.get_ylim(), curve])
        ends = [height, (top - below) / (above - below)]
        axis.plot([one.optimum] * 2, ends, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), transform=lane, zorder=2)


def _legend(patches: list[int], fits: dict[str, Parabolas]) -> list["Artist"]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Line2D([], [], color=COLOURS[i % 5], marker=MARKERS[i % 5], markersize=7, markeredgecolor="white", linewidth=1.2, label=f"p = {p}")
        for i, p in enumerate(patches)
    ]
    if not fits:
        return [*marks]
    grey = "#555555"
    parabolas = [one for curves in fits.values() for one in curves.parabolas.values()]
    shown = [Line2D([], [], color=grey, marker="D", markersize=5, linewidth=1.6, label="optimum and its 95 % interval")]
    if any(one.optimum is not None and one.optimum_interval is None for one in parabolas):
        shown.append(
            Line2D([], [], color=grey, marker="D", markersize=5, markerfacecolor="white", linewidth=0, label="interval not bounded")
        )
    return [*marks, Patch(color=grey, alpha=0.15, label="95 % band of the parabola"), *shown]
