"""Figures of studies. matplotlib is imported when a figure is drawn."""

from vitok.report.figures.floats import against_floats
from vitok.report.figures.generation import generation_over_floats
from vitok.report.figures.panels import (
    FLOATS,
    against,
    beside_the_paper,
    decoder,
    dots,
    encoder,
    frames,
    gallery,
    kind,
    over,
    patch,
    size,
)

__all__ = [
    "FLOATS",
    "against",
    "against_floats",
    "beside_the_paper",
    "decoder",
    "dots",
    "encoder",
    "frames",
    "gallery",
    "generation_over_floats",
    "kind",
    "over",
    "patch",
    "size",
]
