"""The number of additional seeds that would decide an inconclusive claim, if its value stayed the same."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vitok.analysis.claims.claim import DecisionRule, Outcome
from vitok.analysis.claims.setting_means import group_by_setting, pooled_deviation
from vitok.analysis.fits.bootstrap import Interval
from vitok.analysis.fits.quantity import fitted_rows
from vitok.analysis.rows import Row

MAX_MORE_SEEDS = 32  # additional seeds a cell, beyond which the search stops
MAX_SEED_FACTOR = 8  # the seeds that exist, at most, for claims about curves through cells
MORE_IMAGES, MORE_VALUES_OF_E = "more held-out images", "more values of E"  # in words: what narrows an interval beside seeds
_ONE_SEED = "one seed a setting does not tell whether more seeds would settle it"


@dataclass(frozen=True)
class SeedDecision:
    """A verdict and, if it is inconclusive, the number of additional seeds a cell that would decide it."""

    interval: Interval
    verdict: Outcome
    seeds_needed: int | None = None
    reason: str = ""  # what would decide an inconclusive verdict


def seeds_to_decide(interval_with: Callable[[float], Interval], decide: DecisionRule, scatter: bool, otherwise: str = "") -> SeedDecision:
    """Decide by the interval and, if it is inconclusive, search for the smallest number of additional seeds a cell that decides.

    `known` returns the interval with that many additional seeds a cell; it accepts infinity. `scatter` says whether the deviation of seeds
    is known. `otherwise` names what narrows the interval where seeds do not.
    """
    bounds = interval_with(0)
    verdict = decide(bounds)
    if verdict != "inconclusive":
        return SeedDecision(bounds, verdict)
    if not scatter:
        return SeedDecision(bounds, verdict, None, f"{_ONE_SEED}; {otherwise} would narrow it" if otherwise else _ONE_SEED)
    if otherwise and decide(interval_with(float("inf"))) == "inconclusive":
        return SeedDecision(bounds, verdict, None, f"{otherwise}, not seeds, would narrow it")
    fewest, most = 0, 1
    while decide(interval_with(most)) == "inconclusive":
        fewest, most = most, 2 * most
        if fewest >= MAX_MORE_SEEDS:
            return SeedDecision(bounds, verdict, None, f"even {MAX_MORE_SEEDS} more seeds a cell would not settle it")
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (middle, most) if decide(interval_with(middle)) == "inconclusive" else (fewest, middle)
    return SeedDecision(bounds, verdict, most, _seeds_text(most))


def seeds_to_decide_from_cells(
    rows: list[Row], metric: str, residual: float, decided: Callable[[list[Row]], bool]
) -> tuple[int | None, str]:
    """Return the number of additional seeds a cell that would decide a claim about a curve through cells, and a sentence about it.

    `residual` is the variance of the cells about the curve; `decided` judges given rows. The same cells, repeated, stand for more seeds.
    More seeds help only if seeds cause most of that variance: else None is returned.
    """
    rows = [row for row in rows if metric in row]
    groups = group_by_setting(fitted_rows(rows, metric)[0])
    deviation = pooled_deviation([np.array([row[metric] for row in group]) for group in groups])
    if deviation is None:
        return None, _ONE_SEED
    if deviation**2 < residual / 2:
        return None, f"settings lie off the curve by more than their seeds scatter: {MORE_VALUES_OF_E}, not seeds, would narrow it"
    seeds = round(len(rows) / len(groups))
    for times in range(2, MAX_SEED_FACTOR + 1):
        if decided(rows * times):
            more = (times - 1) * seeds
            return more, _seeds_text(more)
    return None, f"even {(MAX_SEED_FACTOR - 1) * seeds} more seeds a cell would not settle it"


def _seeds_text(more: int) -> str:
    """Return the sentence about the number of additional seeds."""
    return f"about {more} more seed{'s' * (more > 1)} a cell would settle it, if the value stays"
