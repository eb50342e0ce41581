"""Pictures: a metric against E as the paper draws it, and originals beside their reconstructions."""

import io
from typing import TYPE_CHECKING

import numpy as np

from vitok.metrics.names import METRICS, Metric
from vitok.study.fit import Fit
from vitok.study.study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

COLOURS, MARKERS = ("#1f6f8b", "#d1495b", "#edae49", "#66a182", "#2e4057"), ("o", "s", "^", "D", "v")


def against_floats(rows: list[Row], metrics: tuple[str, ...], fits: dict[str, Fit]) -> "Figure":
    """Each metric against E on a log2 axis, one mark a cell, colour and shape by patch size, with its fit (Figure 3)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(4.4 * len(metrics), 3.9), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    floats = np.array(sorted({row["E"] for row in rows}), dtype=float)
    along = np.geomspace(floats[0], floats[-1], 50)
    for axis, metric in zip(axes, metrics, strict=True):
        if metric in fits:
            line, low, high = fits[metric].predict(along)
            axis.fill_between(along, low, high, color="#888888", alpha=0.18, linewidth=0, label="95 % band of the fit")
            axis.plot(along, line, color="#555555", linewidth=1)
        for i, patch in enumerate(sorted({row["p"] for row in rows})):
            group = [row for row in rows if row["p"] == patch and metric in row]
            axis.scatter(
                [row["E"] for row in group], [row[metric] for row in group], s=46, color=COLOURS[i % 5], marker=MARKERS[i % 5],
                edgecolors="white", linewidths=0.8, label=f"p = {patch}", zorder=3,
            )  # fmt: skip
        if metric in fits:
            axis.set_title(f"Pearson r = {fits[metric].pearson_r:.3f}", fontsize=10)
        axis.set_xscale("log", base=2)
        axis.set_xticks(floats)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.minorticks_off()
        axis.set_xlabel("E = L · c (floats of the latent)")
        axis.set_ylabel(labelled(METRICS[metric]))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    return figure


def labelled(metric: Metric) -> str:
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.name}{unit} {'↑' if metric.higher else '↓'}"


def side_by_side(originals: "Tensor", reconstructions: "Tensor", side: int = 96) -> bytes:
    """PNG of two rows, originals above; (N, 3, H, W) uint8 each. Small images are enlarged pixel by pixel to about `side`."""
    from PIL import Image

    rows = [np.concatenate(list(part.permute(0, 2, 3, 1).numpy()), axis=1) for part in (originals, reconstructions)]
    image = Image.fromarray(np.concatenate(rows, axis=0))
    factor = max(1, side // originals.shape[-1])
    image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
