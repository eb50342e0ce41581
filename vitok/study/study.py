"""A study: a question, a hypothesis, a grid of runs, a fit, a figure and the claims to be judged."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from vitok.analysis.rows import Row
from vitok.data.sample import PHOTOS
from vitok.study.scales import Scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitok.analysis.claims import Claim


class MetricFit(Protocol):
    """A fit of one metric, as a study's `fit` returns it."""

    def json(self) -> dict[str, Any]:
        """Return the fit as a JSON object, for `fits.json`."""
        ...


AnyFit = TypeVar("AnyFit", bound=MetricFit)


@dataclass(frozen=True)
class Study(Generic[AnyFit]):
    """A question that runs answer. `fit` and `figure` see the finished cells; `claims` are judged on them and decide what the report
    says."""

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
