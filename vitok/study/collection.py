"""A collection of studies that answer together: each runs as it would alone, and one page holds all verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitok.study.study import Study


@dataclass(frozen=True)
class Finding:
    """One finding of a collection: a statement, and the studies that test it. Studies of one finding share most or all of their cells."""

    statement: str
    studies: tuple[Study[Any], ...]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # column -> values of the cells that are taken; empty: all cells


@dataclass(frozen=True)
class Collection:
    """Findings that one command runs in order and one page reports."""

    name: str
    question: str
    findings: tuple[Finding, ...]
    seeds: tuple[int, ...] = (0,)  # without --seeds
    source: str = ""  # the paper's sections, figures or tables that it repeats
