"""A study: a question, a hypothesis, a grid of runs, a fit, a figure and the claims to be judged."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from vitok.config import Recipe, Resources, Training
from vitok.data.sample import PHOTOS
from vitok.overrides import override

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitok.study.claims import Claim

Row = dict[str, Any]  # one finished cell: its description (see grid.describe) and its metrics
Grid = dict[str, tuple[Any, ...]]  # dotted key of a recipe -> its values


@dataclass(frozen=True)
class Arm:
    """Cells that start from one recipe: all combinations of an axis' values."""

    base: Training
    grid: Grid


@dataclass(frozen=True)
class Scale:
    """Where a study's cells start from and what one of its trials runs on."""

    arms: tuple[Arm, ...]
    resources: Resources
    tokenizers: Resources | None = None  # of a study of generators: what tokenizers run on
    parents: bool = False  # whether what its cells start from are cells of the study too
    baselines: tuple[str, ...] = ()  # codecs and autoencoders (see vitok/baselines) that are measured beside its cells

    @property
    def base(self) -> Training:
        return self.arms[0].base

    def of(self, recipe: Training) -> Resources:
        """What a run of this recipe has."""
        return self.tokenizers if self.tokenizers and isinstance(recipe, Recipe) else self.resources

    def set(self, changes: dict[str, Any]) -> "Scale":
        """With dotted keys of every arm's recipe changed. Raises `UsageError`."""
        return replace(self, arms=tuple(Arm(override(arm.base, changes), arm.grid) for arm in self.arms))

    def with_parents(self) -> "Scale":
        """What its cells start from (tokenizers, stage 1) are cells of the study too."""
        return replace(self, parents=True)

    def beside(self, *baselines: str) -> "Scale":
        return replace(self, baselines=baselines)

    def on(self, **resources: Any) -> "Scale":
        """With other resources for each run. Raises `UsageError`."""
        return replace(self, resources=override(self.resources, resources))

    def join(self, *others: "Scale") -> "Scale":
        """With the arms of others, which run on what this one does."""
        return replace(self, arms=(*self.arms, *(arm for other in others for arm in other.arms)))


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
    figure: "Callable[[list[Row], tuple[str, ...], dict[str, AnyFit]], Figure]"
    source: str = ""  # the paper's figures and tables that it repeats
    paper: str = ""  # the paper's answer
    scales: dict[str, Scale] = field(default_factory=dict)  # "laptop", "single-gpu", "paper"; none: nothing is trained
    measures: tuple[str, ...] = ()  # metrics that are fitted and shown, of those that were measured; none: all
    fit: Callable[[list[Row], str], AnyFit] | None = None  # raises VitokError where the cells are too few; None: nothing is fitted
    claims: "tuple[Claim, ...]" = ()
    fronts: tuple[tuple[str, str], ...] = ()  # (cost or metric, metric): which cell is worth taking
    computed: Callable[[], list[Row]] | None = None  # rows that need no run
    corpus: str = PHOTOS  # without --corpus

    def main(self, doc: str | None = None) -> None:
        """The command line of the file that holds this study; `doc` is its docstring."""
        from vitok.study.app import main

        main(self, doc or self.question)
