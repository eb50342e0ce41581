"""How many more seeds a cell would settle what is inconclusive, if the value stayed where it is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vitok.analysis.claims.claim import Decide, Opinion
from vitok.analysis.claims.effects import by_setting, pooled
from vitok.analysis.fits.log_linear import Interval
from vitok.analysis.fits.parabola import quantities
from vitok.analysis.rows import Row

MOST = 32
TIMES = 8  # the seeds that there are: so many at most are asked for
IMAGES, SIZES = "more held-out images", "more values of E"  # what else narrows an interval
_ONE = "one seed a setting does not tell whether more seeds would settle it"


@dataclass(frozen=True)
class Settled:
    interval: Interval
    verdict: Opinion
    seeds_needed: int | None = None
    reason: str = ""  # of an inconclusive verdict: what would settle it


def settle(known: Callable[[float], Interval], decide: Decide, scatter: bool, otherwise: str = "") -> Settled:
    """`known`: the interval with so many more seeds a cell, infinity too. `scatter`: whether it is known how far seeds scatter.
    `otherwise`: what narrows the interval where seeds do not."""
    bounds = known(0)
    verdict = decide(bounds)
    if verdict != "inconclusive":
        return Settled(bounds, verdict)
    if not scatter:
        return Settled(bounds, verdict, None, f"{_ONE}; {otherwise} would narrow it" if otherwise else _ONE)
    if otherwise and decide(known(float("inf"))) == "inconclusive":
        return Settled(bounds, verdict, None, f"{otherwise}, not seeds, would narrow it")
    fewest, most = 0, 1
    while decide(known(most)) == "inconclusive":
        fewest, most = most, 2 * most
        if fewest >= MOST:
            return Settled(bounds, verdict, None, f"even {MOST} more seeds a cell would not settle it")
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (middle, most) if decide(known(middle)) == "inconclusive" else (fewest, middle)
    return Settled(bounds, verdict, most, _about(most))


def settled_by_cells(rows: list[Row], metric: str, residual: float, decided: Callable[[list[Row]], bool]) -> tuple[int | None, str]:
    """Likewise, and what to say of it, where the interval comes from cells about a curve, `residual` their variance: the same cells,
    several times, stand for more seeds. That helps only if the cells lie off the curve by their seeds."""
    rows = [row for row in rows if metric in row]
    groups = by_setting(quantities(rows, metric)[0])
    deviation = pooled([np.array([row[metric] for row in group]) for group in groups])
    if deviation is None:
        return None, _ONE
    if deviation**2 < residual / 2:
        return None, f"settings lie off the curve by more than their seeds scatter: {SIZES}, not seeds, would narrow it"
    seeds = round(len(rows) / len(groups))
    for times in range(2, TIMES + 1):
        if decided(rows * times):
            more = (times - 1) * seeds
            return more, _about(more)
    return None, f"even {(TIMES - 1) * seeds} more seeds a cell would not settle it"


def _about(more: int) -> str:
    return f"about {more} more seed{'s' * (more > 1)} a cell would settle it, if the value stays"
