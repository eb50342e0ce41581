"""The claim that the number of floats matters, and not how tokens and channels make it up."""

from collections import defaultdict

import numpy as np

from vitok.analysis.claims.claim import Claim, Judgement, Metrics, preferred, sentences, stays_within
from vitok.analysis.claims.effects import means
from vitok.analysis.claims.seeds import IMAGES, settle
from vitok.analysis.fits.log_linear import Interval, interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError


def shape_is_free(metrics: Metrics, *, at_most: float, source: str) -> Claim:
    """At equal E, what another patch size changes is worth less than `at_most` doublings of E.

    The gap between the best and the worst patch size (with its temporal stride) at each shared E, averaged, in units of the fitted
    slope. Scatter alone makes gaps, so that the interval's lower end is the lower one of the plain and the reversed percentile.
    """

    def words(metric: str) -> str:
        return f"{metric}: at equal E the code's shape hardly matters"

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        places, x = _places(found.rows), np.log2([float(row["E"]) for row in found.rows])
        if not places:
            raise VitokError("no two patch sizes share a value of E")
        gap = float(_gaps(found.values[None], places, x)[0])

        def known(more: float) -> Interval:
            low, high = interval(_gaps(found.draws(more), places, x))
            return max(0.0, min(low, 2 * gap - high)), high

        narrower = IMAGES if found.images is not None else ""
        settled = settle(known, stays_within(at_most), found.deviation is not None, narrower)
        low, high = settled.interval
        evidence = (
            f"at equal E the patch size changes {metric} by as much as {gap:.2f} doublings of E would "
            f"(95 % interval {low:.2f} to {high:.2f} over {found.over}); at most {at_most:g} is asked"
        )
        said = sentences(evidence, *found.notes, settled.reason)
        return Judgement(settled.verdict, said, gap, settled.interval, f"{gap:.2g} doublings of E", settled.seeds_needed)

    return Claim(words, source, (preferred(metrics),), at_most, judge)


def _places(rows: list[Row]) -> list[list[list[int]]]:
    """Of each E that two shapes share: the settings of each shape."""
    shared: dict[float, dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, row in enumerate(rows):
        shared[row["E"]][row["p"], row.get("q", 1)].append(i)
    return [list(shapes.values()) for shapes in shared.values() if len(shapes) > 1]


def _gaps(draws: np.ndarray, places: list[list[list[int]]], x: np.ndarray) -> np.ndarray:
    """(draws,) of means (draws, settings)."""
    gaps = [np.ptp([draws[:, shape].mean(1) for shape in shapes], axis=0) for shapes in places]
    centred = x - x.mean()
    return np.mean(gaps, axis=0) / np.abs(draws @ centred / (centred @ centred))
