"""Figures of studies: cells over a column, one metric against another, dots, galleries.

The gid of each axis names what it shows, such as "E:rPSNR", so that the paper's numbers can be marked there (see `report.paper`).
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vitok.analysis.rows import Row
from vitok.metrics.registry import METRICS
from vitok.report.figures.style import COLOURS, MARKERS, axis_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FLOATS = "E = L · c (floats of the latent)"
PANELS_PER_ROW = 4
MAX_PHOTOGRAPHS = 8  # in a gallery
SeriesName = Callable[[Row], str]
DrawFigure = Callable[[list[Row], tuple[str, ...], dict[str, Any]], "Figure"]


def patch(row: Row) -> str:
    """Name the series by the patch size."""
    return f"p = {row['p']}"


def size(row: Row) -> str:
    """Name the series by the image size."""
    return f"{row['size']} pixels"


def frames(row: Row) -> str:
    """Name the series by the number of frames."""
    return "single frames" if row["frames"] == 1 else f"clips of {row['frames']} frames"


def encoder(row: Row) -> str:
    """Name the series by the encoder's size."""
    return f"encoder {row['variant'].partition('-')[0]}"


def decoder(row: Row) -> str:
    """Name the series by the decoder's size."""
    return f"decoder {row['variant'].partition('-')[2].partition('/')[0]}"


def kind(row: Row) -> str:
    """Name the series by the kind of code, as the paper calls them (A.4)."""
    latent, nested = "+L" in row["variant"], "+M" in row["variant"]
    if nested:
        return "Mask Latent" if latent else "Mask Simple"
    return f"Latent, p = {row['p']}" if latent else f"Simple, p = {row['p']}"


def over(column: str, label: str, by: SeriesName = patch, joined: bool = False) -> DrawFigure:
    """Return a figure of each metric over a column (log2): a mark for each cell, colour and shape by the series that `by` names.

    `joined` draws lines through the means of each series.
    """

    def draw(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Any]) -> "Figure":
        rows = [row for row in rows if column in row]
        figure, axes = _panels(len(metrics))
        names = list(dict.fromkeys(by(row) for row in rows))
        for axis, metric in zip(axes, metrics, strict=False):
            having = [row for row in rows if metric in row]
            axis.set_gid(f"{column}:{metric}")
            for i, name in enumerate(names):
                _scatter_series(axis, [row for row in having if by(row) == name], column, metric, i, name, joined)
            if metric in fits and fits[metric].along == column:
                _fit_line(axis, fits[metric])
            _log2_axis(axis, sorted({float(row[column]) for row in having}), column)
            axis.set_xlabel(label)
            axis.set_ylabel(axis_label(METRICS[metric]))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False, fontsize=9)
        return figure

    return draw


def against(*pairs: tuple[str, str]) -> DrawFigure:
    """Return a figure of one metric against another, a panel for each pair that was measured.

    A mark is a setting, at the mean of its seeds, which are dots.
    """

    def draw(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Any]) -> "Figure":
        shown = [pair for pair in pairs if all(any(name in row for row in rows) for name in pair)] or [(metrics[0], metrics[-1])]
        figure, axes = _panels(len(shown), width=4.6, height=4.2)
        for axis, (x, y) in zip(axes, shown, strict=False):
            axis.set_gid(f"{x}:{y}")
            for i, (name, group) in enumerate(_group_by_setting([row for row in rows if x in row and y in row]).items()):
                colour, marker = COLOURS[i % 5], MARKERS[(i + i // 5) % 5]  # 25 distinct marks
                xs, ys = [row[x] for row in group], [row[y] for row in group]
                axis.plot(xs, ys, ".", color=colour, alpha=0.5, markersize=4)
                axis.scatter(
                    float(np.mean(xs)), float(np.mean(ys)), s=64, color=colour, marker=marker, edgecolors="white", zorder=3,
                    label=_without_shared_words(name, rows),
                )  # fmt: skip
            axis.margins(x=0.12, y=0.12)
            axis.set_xlabel(axis_label(METRICS[x]))
            axis.set_ylabel(axis_label(METRICS[y]))
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
        return figure

    return draw


def dots(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Any]) -> "Figure":
    """Draw each metric as a panel and each setting as a line: its mean, and a small dot for each seed.

    This suits studies of few cells with baselines beside them. Axes do not begin at zero, where a decibel in thirty would not be visible.
    """
    groups = _group_by_setting(rows)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.8 + 2.9 * len(metrics), 1.1 + 0.42 * len(groups)), layout="constrained")
    axes = list(figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0])
    for axis, metric in zip(axes, metrics, strict=True):
        for place, group in enumerate(groups.values()):
            values = [row[metric] for row in group if metric in row]
            axis.axhline(place, color="#dddddd", linewidth=0.8, zorder=1)
            if values:
                mean, colour = float(np.mean(values)), "#7a7a7a" if "subject" in group[0] else COLOURS[0]
                axis.plot(values, [place] * len(values), ".", color="#222222", markersize=4, zorder=2)
                axis.scatter(mean, place, s=52, color=colour, edgecolors="white", zorder=3)
                axis.annotate(f"{mean:.4g}", (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        axis.margins(x=0.2)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(axis_label(METRICS[metric]))
    axes[0].set_yticks(range(len(groups)), list(groups), fontsize=8)
    axes[0].set_ylim(len(groups) - 0.5, -0.7)
    return figure


def gallery(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Any]) -> "Figure":
    """Draw held-out photographs, one a row: the original, then its reconstructions from ever smaller codes (Figure 2)."""
    from matplotlib.figure import Figure

    shown = sorted((row for row in rows if row.get("picture")), key=lambda row: -row["E"])
    sheets = [np.asarray(Image.open(io.BytesIO(row["picture"])).convert("RGB")) for row in shown]
    height, width = sheets[0].shape[0] // 2, sheets[0].shape[1]
    count = round(width / height)
    numbers = np.unique(np.linspace(0, count - 1, min(count, MAX_PHOTOGRAPHS)).round().astype(int)).tolist()
    figure = Figure(figsize=(1.35 * (len(shown) + 1), 1.3 * len(numbers) + 0.5), layout="constrained")
    axes = figure.subplots(len(numbers), len(shown) + 1, squeeze=False)
    for line, number in zip(axes, numbers, strict=True):
        cut = slice(number * width // count, (number + 1) * width // count)
        pictures = [sheets[0][:height, cut], *(sheet[height:, cut] for sheet in sheets)]
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture)
            axis.set_axis_off()
    told = [f"E = {row['E']:g}\n{row['rPSNR']:.1f} dB" if "rPSNR" in row else f"E = {row['E']:g}" for row in shown]
    for axis, text in zip(axes[0], ["original\n", *told], strict=True):
        axis.set_title(text, fontsize=9)
    return figure


def beside_the_paper(*columns: tuple[str, str]) -> DrawFigure:
    """Return a figure of computed values beside printed ones, a panel for each (column, label).

    Rows hold the printed value under "paper COLUMN".
    """

    def draw(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Any]) -> "Figure":
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.4 + 3.6 * len(columns), 1 + 0.5 * len(rows)), layout="constrained")
        axes = list(figure.subplots(1, len(columns), squeeze=False, sharey=True)[0])
        places = np.arange(len(rows))
        for axis, (column, label) in zip(axes, columns, strict=True):
            here = axis.barh(places - 0.19, [row[column] for row in rows], 0.36, color=COLOURS[0], label="computed here")
            printed = axis.barh(places + 0.19, [row[f"paper {column}"] for row in rows], 0.36, color="#7a3e9d", label="the paper")
            for drawn in (here, printed):
                axis.bar_label(drawn, fmt="%.4g", padding=3, fontsize=8)
            axis.margins(x=0.2)
            axis.set_xlabel(label)
        axes[0].set_yticks(places, [row["label"] for row in rows], fontsize=8)
        axes[0].invert_yaxis()
        axes[0].legend(frameon=False, fontsize=8, loc="lower right")
        return figure

    return draw


def _panels(count: int, width: float = 4.2, height: float = 3.9) -> "tuple[Figure, list[Axes]]":
    """Return a figure with this many panels."""
    from matplotlib.figure import Figure

    across = min(PANELS_PER_ROW, count)
    down = -(-count // across)
    figure = Figure(figsize=(width * across, height * down + 0.4), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[count:]:
        axis.set_axis_off()
    return figure, axes


def _scatter_series(axis: "Axes", rows: list[Row], column: str, metric: str, i: int, name: str, joined: bool) -> None:
    """Draw the cells of one series, and with `joined` a line through their means."""
    x, y = [float(row[column]) for row in rows], [float(row[metric]) for row in rows]
    axis.scatter(x, y, s=46, color=COLOURS[i % 5], marker=MARKERS[i % 5], edgecolors="white", linewidths=0.8, label=name, zorder=3)
    if joined:
        at = sorted(set(x))
        axis.plot(at, [np.mean([b for a, b in zip(x, y, strict=True) if a == one]) for one in at], color=COLOURS[i % 5], linewidth=1)


def _fit_line(axis: "Axes", fit: Any) -> None:
    """Draw a fit's line and 95 % band over the measured range."""
    low, high = fit.measured
    inside = np.geomspace(low, high, 60)
    line, below, above = fit.predict(inside)
    axis.fill_between(inside, below, above, color="#888888", alpha=0.18, linewidth=0)
    axis.plot(inside, line, color="#555555", linewidth=1)
    axis.set_title(fit.headline, fontsize=10)


def _log2_axis(axis: "Axes", values: list[float], column: str) -> None:
    """Scale the x axis by log2, with ticks at the values."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.set_xscale("log", base=2)
    axis.set_xticks(values)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axis.tick_params(axis="x", labelrotation=45 if len(values) > 6 else 0)


def _group_by_setting(rows: list[Row]) -> dict[str, list[Row]]:
    """Group rows by their setting."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["setting"], []).append(row)
    return found


def _without_shared_words(name: str, rows: list[Row]) -> str:
    """Return the name without the words that all settings begin with."""
    names = [row["setting"].split() for row in rows]
    shared = 0
    while all(len(one) > shared + 1 and one[shared] == names[0][shared] for one in names):
        shared += 1
    return " ".join(name.split()[shared:])
