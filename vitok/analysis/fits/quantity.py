"""The quantity that trends are fitted to: a metric, or its natural logarithm for distances."""

import numpy as np

from vitok.analysis.rows import Row
from vitok.metrics.registry import METRICS

LOGGED = ("frechet", "infinity", "kernel")  # distances: a good and a bad one are orders of magnitude apart


def is_log_scaled(metric: str) -> bool:
    """Return whether the metric is a distance, whose logarithm is fitted."""
    return METRICS[metric].statistic in LOGGED


def fitted_quantity(metric: str) -> str:
    """Return the name of the fitted quantity: "log rFID", "rPSNR"."""
    return f"log {metric}" if is_log_scaled(metric) else metric


def fitted_rows(rows: list[Row], metric: str) -> tuple[list[Row], tuple[str, ...]]:
    """Return the rows that have the metric, with the fitted quantity in its place, and a note if values had to be left out."""
    having = [row for row in rows if metric in row]
    usable = [row for row in having if np.isfinite(row[metric]) and (row[metric] > 0 or not is_log_scaled(metric))]
    bad, of = len(having) - len(usable), "positive number" if is_log_scaled(metric) else "finite number"
    notes = (f"{metric} is no {of} in {bad} of {len(having)} cells, which are left out",) if bad else ()
    return [row | {metric: float(np.log(row[metric]) if is_log_scaled(metric) else row[metric])} for row in usable], notes
