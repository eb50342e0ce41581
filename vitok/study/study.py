"""A study: a question, a hypothesis, a grid of runs, a fit, a figure and the claims to be judged."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from vitok.config import Resources, Training
from vitok.data.sample import PHOTOS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitok.study.claims import Verdict

Row = dict[str, Any]  # one finished cell: its description (see grid.describe) and its metrics


@dataclass(frozen=True)
class Scale:
    """Where a study's grid starts from and what one of its trials runs on."""

    base: Training
    resources: Resources
    grid: dict[str, tuple[Any, ...]]  # dotted key of a recipe -> its values; cells are all combinations
    tokenizers: Resources | None = None  # of a study of generators: what the tokenizers run on that are not there yet


class Fitted(Protocol):
    """What a study's `fit` finds of a metric."""

    def json(self) -> dict[str, Any]: ...


AnyFit = TypeVar("AnyFit", bound=Fitted)


@dataclass(frozen=True)
class Study(Generic[AnyFit]):
    """`fit` and `figure` see the finished cells; `claims` are judged on them and decide what the report says."""

    name: str
    question: str
    hypothesis: str
    scales: dict[str, Scale]  # "laptop", "single-gpu", "paper"
    figure: "Callable[[list[Row], tuple[str, ...], dict[str, AnyFit]], Figure]"
    fit: Callable[[list[Row], str], AnyFit] | None = None  # raises VitokError where the cells are too few; None: nothing is fitted
    claims: "tuple[Callable[[list[Row]], Verdict], ...]" = ()
    corpus: str = PHOTOS  # without --corpus

    def main(self, doc: str | None = None) -> None:
        """The command line of the file that holds this study; `doc` is its docstring."""
        from vitok.study.app import main

        main(self, doc or self.question)
