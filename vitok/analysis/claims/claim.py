"""A claim, the verdict on it, and the rules by which a confidence interval decides."""

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vitok.analysis.fits.bootstrap import Interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS, find_metrics

Outcome = Literal["supported", "not supported", "inconclusive"]
DecisionRule = Callable[[Interval], Outcome]
MetricPreference = str | tuple[str, ...]  # metrics in order of preference: the first that was measured is taken
NO_INTERVAL = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Judgement:
    """The result of judging a claim on the cells of a study, before the claim's own text is put beside it.

    Raises `ValueError` for a verdict other than "inconclusive" that has no interval.
    """

    verdict: Outcome
    evidence: str
    value: float = float("nan")
    interval: Interval = NO_INTERVAL  # 95 %
    effect: str = ""  # size of the effect, in words
    seeds_needed: int | None = None  # additional seeds a cell that would decide, if the value stayed; None: none would, or unknown

    def __post_init__(self) -> None:
        if self.verdict != "inconclusive" and any(map(math.isnan, self.interval)):
            raise ValueError(f"{self.verdict} without an interval")


@dataclass(frozen=True)
class Verdict:
    """A judged claim, as reports show it and `claims.json` holds it."""

    claim: str
    source: str
    verdict: Outcome
    evidence: str
    value: float
    interval: Interval
    bound: float
    effect: str = ""
    seeds_needed: int | None = None

    def json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object. Numbers that are not finite become null, since JSON has no NaN."""
        found = asdict(self)
        return found | {name: _number(found[name]) for name in ("value", "bound")} | {"interval": [_number(end) for end in self.interval]}


@dataclass(frozen=True)
class Claim:
    """A statement about metrics. Calling it with the rows of finished cells returns its verdict.

    A claim that cannot be judged on these rows is "inconclusive"; it never raises an error.
    """

    wording: Callable[..., str]  # the statement about given metrics, one of each preference of `metrics`
    source: str  # where the paper says so: "Finding 1, Figure 3"
    metrics: tuple[tuple[str, ...], ...]  # preferences; of each the first that was measured is taken
    bound: float  # that the value is compared with, in the value's unit
    judge: Callable[..., Judgement]  # (rows, one metric of each preference) -> judgement; may raise `VitokError`

    @property
    def statement(self) -> str:
        """The statement in words, about the preferred metrics."""
        return self.wording(*(names[0] for names in self.metrics))

    def lacking(self, measured: Collection[str]) -> str:
        """Return one line that names the metrics which this claim needs and a study with the metrics `measured` lacks; "" if none is
        lacking.
        """
        missing = [" or ".join(names) for names in self.metrics if not set(names) & set(measured)]
        if not missing:
            return ""
        return f"“{self.statement}” ({self.source}) needs {' and '.join(missing)}; measured is {', '.join(measured) or 'nothing'}"

    def __call__(self, rows: list[Row]) -> Verdict:
        """Judge the claim on the rows of finished cells, with the first metric of each preference that any row has."""
        taken = [next((name for name in names if any(name in row for row in rows)), names[0]) for names in self.metrics]
        try:
            found = self.judge(rows, *taken)
        except VitokError as error:
            found = Judgement("inconclusive", str(error))
        return Verdict(claim=self.wording(*taken), source=self.source, bound=self.bound, **vars(found))


def canonical_names(metrics: MetricPreference) -> tuple[str, ...]:
    """Return the metrics' names as the catalogue spells them. Raises `UsageError` for an unknown metric."""
    return tuple(metric.name for metric in find_metrics((metrics,) if isinstance(metrics, str) else metrics))


def reaches(bound: float) -> DecisionRule:
    """Return the decision rule "the value is at least `bound`"."""
    return lambda bounds: "supported" if bounds[0] >= bound else "not supported" if bounds[1] < bound else "inconclusive"


def exceeds(bound: float) -> DecisionRule:
    """Return the decision rule "the value is greater than `bound`"."""
    return lambda bounds: "supported" if bounds[0] > bound else "not supported" if bounds[1] <= bound else "inconclusive"


def stays_within(bound: float) -> DecisionRule:
    """Return the decision rule "the value is at most `bound`"."""
    return lambda bounds: "supported" if bounds[1] <= bound else "not supported" if bounds[0] > bound else "inconclusive"


def direction(metric: str) -> int:
    """Return 1 if a higher value of the metric is better, else -1. A gain is the difference times this sign."""
    return 1 if METRICS[metric].higher else -1


def format_value(value: float, metric: str, signed: bool = False) -> str:
    """Format a value of a metric with three significant digits and its unit."""
    return f"{value:{'+' if signed else ''}.3g} {METRICS[metric].unit}".rstrip()


def interval_text(bounds: Interval, over: str, digits: str = "+.3g") -> str:
    """Format a 95 % interval and the sample that it is taken over, in parentheses."""
    return f"(95 % interval {bounds[0]:{digits}} to {bounds[1]:{digits}} over {over})"


def join_sentences(*parts: str) -> str:
    """Join the parts that are not empty by semicolons."""
    return "; ".join(filter(None, parts))


def _number(value: float) -> float | None:
    """Return the value, or None if it is not finite."""
    return value if math.isfinite(value) else None
