"""A study: a question, a hypothesis, a grid of runs, a fit, a figure and the claims to be judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitok.config import Recipe, Resources

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitok.study.claims import Verdict
    from vitok.study.fit import Fit

Row = dict[str, Any]  # one finished cell: its description (see grid.describe) and its metrics


@dataclass(frozen=True)
class Scale:
    """Where a study's grid starts from and what one of its trials runs on."""

    base: Recipe
    resources: Resources
    grid: dict[str, tuple[Any, ...]]  # dotted key of a recipe -> its values; cells are all combinations


@dataclass(frozen=True)
class Study:
    """`fit` and `figure` see the finished cells; `claims` are judged on them and decide what the report says."""

    name: str
    question: str
    hypothesis: str
    scales: dict[str, Scale]  # "laptop", "single-gpu", "paper"
    fit: "Callable[[list[Row], str], Fit]"
    figure: "Callable[[list[Row], tuple[str, ...], dict[str, Fit]], Figure]"
    claims: "tuple[Callable[[list[Row]], Verdict], ...]"

    def main(self, doc: str | None = None) -> None:
        """The command line of the file that holds this study; `doc` is its docstring."""
        from vitok.study.app import main

        main(self, doc or self.question)
