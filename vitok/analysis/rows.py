"""A row of results: one finished cell, its description and its metrics."""

from typing import Any

# column -> value: those of `grid.describe` ("E", "p", "c", ...), keys of the recipe ("loss.lpips") and metrics ("rPSNR")
Row = dict[str, Any]
