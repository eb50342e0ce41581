"""The figure of a metric against E, as the paper draws it (Figure 3)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitok.analysis.fits.lines import LogLinearFit
from vitok.analysis.fits.power_laws import PowerLaw
from vitok.analysis.rows import Row
from vitok.metrics.registry import METRICS
from vitok.report.figures.style import COLOURS, MARKERS, axis_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LineStyle = tuple[Literal["-", "--"], str]
LINE_STYLES: tuple[LineStyle, LineStyle] = (
    ("-", "fit"),
    ("--", "extrapolated"),
)  # within the measured E, beyond it


def against_floats(rows: list[Row], metrics: tuple[str, ...], fits: Mapping[str, LogLinearFit | PowerLaw]) -> "Figure":
    """Draw each metric against E on a log2 axis with its fit (Figure 3): a mark for each cell, colour and shape by patch size.

    The fit's line is solid where there are cells and dashed up to one doubling of E beyond them.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(4.4 * len(metrics), 4.2), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    floats = np.array(sorted({row["E"] for row in rows}), dtype=float)
    patches = sorted({row["p"] for row in rows})
    for axis, metric in zip(axes, metrics, strict=True):
        for i, patch in enumerate(patches):
            group = [row for row in rows if row["p"] == patch and metric in row]
            axis.scatter(
                [row["E"] for row in group], [row[metric] for row in group], s=46, color=COLOURS[i % 5], marker=MARKERS[i % 5],
                edgecolors="white", linewidths=0.8, zorder=3,
            )  # fmt: skip
        axis.set_gid(f"E:{metric}")
        axis.set_xscale("log", base=2)
        if metric in fits:
            axis.set_title(fits[metric].headline, fontsize=10)
            _draw_fit(axis, fits[metric])
        axis.set_xticks(floats)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.minorticks_off()
        axis.tick_params(axis="x", labelrotation=45 if len(floats) > 6 else 0)
        axis.set_xlabel("E = L · c (floats of the latent)")
        axis.set_ylabel(axis_label(METRICS[metric]))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=_legend(patches, bool(fits)), loc="outside upper center", ncols=len(patches) + 3, frameon=False, fontsize=9)
    return figure


def _draw_fit(axis: "Axes", fit: LogLinearFit | PowerLaw) -> None:
    """Draw a fit's line and its 95 % band, and widen the panel for the line by at most a quarter of the marks' height.

    The band may leave the panel: a wide band must not squash the marks.
    """
    low, high = fit.measured
    inside, beyond = np.geomspace(low, high, 60), np.geomspace(high, 2 * high, 20)
    held, shown = [*axis.get_ylim(), *fit.predict(inside)[0]], fit.predict(beyond)[0]
    bottom, top = min(held), max(held)
    reach = 0.25 * (top - bottom)
    axis.set_ylim(np.clip(min(shown), bottom - reach, bottom), np.clip(max(shown), top, top + reach))
    for column, (style, _), alpha in zip((inside, beyond), LINE_STYLES, (0.18, 0.09), strict=True):
        line, lower, upper = fit.predict(column)
        axis.fill_between(column, lower, upper, color="#888888", alpha=alpha, linewidth=0)
        axis.plot(column, line, color="#555555", linewidth=1, linestyle=style)


def _legend(patches: list[int], fitted: bool) -> list["Artist"]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks = [
        Line2D([], [], color=COLOURS[i % 5], marker=MARKERS[i % 5], markersize=7, markeredgecolor="white", linewidth=0, label=f"p = {p}")
        for i, p in enumerate(patches)
    ]
    if not fitted:
        return [*marks]
    shown = [Line2D([], [], color="#555555", linewidth=1, linestyle=style, label=label) for style, label in LINE_STYLES]
    return [*marks, shown[0], Patch(color="#888888", alpha=0.18, linewidth=0, label="95 % band of the fit"), shown[1]]
