"""A row of results: one finished cell, its description and its metrics."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


Row = dict[str, Any]  # one finished cell: its description (see grid.describe) and its metrics
