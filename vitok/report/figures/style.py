"""Style that all figures share: colours, markers, axis labels."""

from vitok.metrics.registry import Metric

COLOURS, MARKERS = ("#1f6f8b", "#d1495b", "#edae49", "#66a182", "#2e4057"), ("o", "s", "^", "D", "v")


def axis_label(metric: Metric) -> str:
    """Return the label of a metric's axis: its name, its unit, and an arrow towards better values."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.name}{unit} {'↑' if metric.higher else '↓'}"
