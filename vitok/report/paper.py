"""What the paper reports, from paper.toml: reference marks beside what is measured here."""

import re
import tomllib
from collections.abc import Collection
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from vitok.analysis.rows import Row
from vitok.errors import VitokError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARK = "#7a3e9d"


class Reported(BaseModel):
    """A value, or several, that the paper prints of one setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    where: str  # in the paper
    studies: tuple[str, ...]  # in whose reports it stands
    of: str
    data: str
    E: int | None = None
    values: dict[str, float]

    @property
    def size(self) -> int | None:
        """The side of its images, pixels; None where that is not said."""
        found = re.search(r"(\d+) pixels", self.data)
        return int(found[1]) if found else None

    @property
    def compression(self) -> float | None:
        """T * H * W * 3 / E, of clips of "N frames" or of images."""
        clips = re.search(r"(\d+) frames", self.what)
        return 3 * (int(clips[1]) if clips else 1) * self.size**2 / self.E if self.size and self.E else None

    @property
    def what(self) -> str:
        """The setting in words."""
        return ", ".join(filter(None, (self.of, self.data)))


@lru_cache(maxsize=1)
def all_reported() -> tuple[Reported, ...]:
    """Return all that paper.toml holds."""
    tree = tomllib.loads(files("vitok.report").joinpath("paper.toml").read_text())
    return tuple(Reported.model_validate(entry) for entry in tree["reported"])


def reported_values(study: str) -> tuple[Reported, ...]:
    """Return what the report of a study shows of the paper."""
    return tuple(one for one in all_reported() if study in one.studies)


def table(values: tuple[Reported, ...]) -> list[Row]:
    """Return these values as rows of a table."""
    return [{"where": one.where, "of": one.what, **({"E": one.E} if one.E else {}), **one.values} for one in values]


def with_printed_values(rows: list[Row], study: str) -> list[Row]:
    """Return rows with what the paper prints of the same, as "paper COLUMN": by their label, "OF" or "OF, DATA". Raises `VitokError`
    where nothing is printed."""
    return [row | _printed(row["label"], study) for row in rows]


def _printed(label: str, study: str) -> Row:
    name, _, data = label.partition(", ")
    for one in reported_values(study):
        if one.of == label or (one.of == name and data in one.data):
            return {f"paper {column}": value for column, value in one.values.items() if column in ("params_m", "gmacs")}
    raise VitokError(f"the paper prints nothing of {label!r}")


def mark_figure(figure: "Figure", values: tuple[Reported, ...], sizes: Collection[int | None]) -> None:
    """Draw reference marks on a study's figure. Its axes say by their gid what they show: "rPSNR" over anything, "E:rPSNR" over E
    ("compression" alike), "rFID:rPSNR" one over the other. A point of images of one of these `sizes`, within the range of the axis,
    is a star there; of another setting it is a line at its value, with the setting behind it."""
    for axis in figure.axes:
        across, _, metric = (axis.get_gid() or "").rpartition(":")
        found = [one for one in values if metric in one.values]
        points = [(_across(one, across) if one.size in sizes else None, one.values[metric], one.what) for one in found]
        inside = [point for point in points if point[0] is not None and _within(axis, point[0])]
        _stars(axis, inside)
        _lines(axis, [point for point in points if point not in inside])


def _across(one: Reported, across: str) -> float | None:
    return {"E": one.E, "compression": one.compression}.get(across, one.values.get(across))


def _within(axis: "Axes", x: float) -> bool:
    low, high = sorted(axis.get_xlim())
    return low <= x <= high


def _stars(axis: "Axes", points: list[Any]) -> None:
    if points:
        axis.scatter(
            [x for x, _, _ in points], [y for _, y, _ in points], marker="*", s=130, color=MARK, edgecolors="white", linewidths=0.7,
            zorder=6,
        )  # fmt: skip
    for x, y, _ in points:
        axis.annotate("paper", (x, y), (7, 4), textcoords="offset points", fontsize=7, color=MARK)


def _lines(axis: "Axes", points: list[Any]) -> None:
    """Draw at most three lines, nearest to what is measured; the axis keeps its range unless the line lies close by. Their words lie on
    white, under the cells."""
    from matplotlib.patheffects import withStroke

    low, high = sorted(axis.get_ylim())
    span = high - low
    near = [point for point in points if low - 0.25 * span <= point[1] <= high + 0.25 * span]
    for _, y, what in sorted(near, key=lambda point: abs(point[1] - (low + high) / 2))[:3]:
        axis.axhline(y, color=MARK, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1.5)
        axis.annotate(
            f"paper: {y:g} ({what})", (0.99, y), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=6, color=MARK,
            zorder=2.5, path_effects=[withStroke(linewidth=2, foreground="white")],
        )  # fmt: skip
