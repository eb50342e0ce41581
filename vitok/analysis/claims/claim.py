"""What a claim is, and what is found of it."""

import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vitok.analysis.fits.log_linear import Interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS, named

Opinion = Literal["supported", "not supported", "inconclusive"]
Decide = Callable[[Interval], Opinion]
Metrics = str | tuple[str, ...]  # by preference: the first that was measured is taken
NOWHERE = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Judgement:
    """What cells say of a claim."""

    verdict: Opinion
    evidence: str
    value: float = float("nan")
    interval: Interval = NOWHERE  # 95 %
    effect: str = ""  # its size, in words
    seeds_needed: int | None = None  # so many more a cell would settle it, if the value stayed; None: they would not, or it is not known

    def __post_init__(self) -> None:
        if self.verdict != "inconclusive" and any(map(math.isnan, self.interval)):
            raise ValueError(f"{self.verdict} without an interval")


@dataclass(frozen=True)
class Verdict:
    claim: str
    source: str
    verdict: Opinion
    evidence: str
    value: float
    interval: Interval
    bound: float
    effect: str = ""
    seeds_needed: int | None = None

    def json(self) -> dict[str, Any]:
        """What is not known, or not bounded, is null: JSON has no NaN."""
        found = asdict(self)
        return found | {name: _number(found[name]) for name in ("value", "bound")} | {"interval": [_number(end) for end in self.interval]}


@dataclass(frozen=True)
class Claim:
    """Called with the finished cells, it gives its verdict. What cannot be judged is inconclusive, never an error."""

    words: Callable[..., str]  # the statement about these metrics, one of each of `metrics`
    source: str  # in the paper
    metrics: tuple[tuple[str, ...], ...]  # of each the first that was measured
    bound: float  # what the value is held against, in the value's unit
    judge: Callable[..., Judgement]  # of the rows and one of each of `metrics`; may raise `VitokError`

    @property
    def statement(self) -> str:
        return self.words(*(names[0] for names in self.metrics))

    def lacking(self, measured: Collection[str]) -> str:
        """What a study that measures these metrics alone cannot judge: one line; empty if there is nothing."""
        missing = [" or ".join(names) for names in self.metrics if not set(names) & set(measured)]
        if not missing:
            return ""
        return f"“{self.statement}” ({self.source}) needs {' and '.join(missing)}; measured is {', '.join(measured) or 'nothing'}"

    def __call__(self, rows: list[Row]) -> Verdict:
        taken = [next((name for name in names if any(name in row for row in rows)), names[0]) for names in self.metrics]
        try:
            found = self.judge(rows, *taken)
        except VitokError as error:
            found = Judgement("inconclusive", str(error))
        return Verdict(claim=self.words(*taken), source=self.source, bound=self.bound, **vars(found))


def preferred(metrics: Metrics) -> tuple[str, ...]:
    """As the catalogue spells them. Raises `UsageError` for an unknown one."""
    return tuple(metric.name for metric in named((metrics,) if isinstance(metrics, str) else metrics))


def reaches(bound: float) -> Decide:
    return lambda bounds: "supported" if bounds[0] >= bound else "not supported" if bounds[1] < bound else "inconclusive"


def exceeds(bound: float) -> Decide:
    return lambda bounds: "supported" if bounds[0] > bound else "not supported" if bounds[1] <= bound else "inconclusive"


def stays_within(bound: float) -> Decide:
    return lambda bounds: "supported" if bounds[1] <= bound else "not supported" if bounds[0] > bound else "inconclusive"


def sign(metric: str) -> int:
    """1 if more of it is better, else -1: a gain is the difference times it."""
    return 1 if METRICS[metric].higher else -1


def amount(value: float, metric: str, signed: bool = False) -> str:
    """A value of a metric, with its unit."""
    return f"{value:{'+' if signed else ''}.3g} {METRICS[metric].unit}".rstrip()


def within(bounds: Interval, over: str, digits: str = "+.3g") -> str:
    return f"(95 % interval {bounds[0]:{digits}} to {bounds[1]:{digits}} over {over})"


def sentences(*parts: str) -> str:
    return "; ".join(filter(None, parts))


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
