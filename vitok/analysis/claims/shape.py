"""The claim that the number of floats matters, and not the split into tokens and channels."""

from collections import defaultdict

import numpy as np

from vitok.analysis.claims.claim import Claim, Judgement, MetricPreference, canonical_names, join_sentences, stays_within
from vitok.analysis.claims.seeds import MORE_IMAGES, seeds_to_decide
from vitok.analysis.claims.setting_means import means
from vitok.analysis.fits.bootstrap import Interval, percentile_interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError


def shape_is_free(metrics: MetricPreference, *, at_most: float, source: str) -> Claim:
    """Claim that at equal E another patch size changes the metric by no more than `at_most` doublings of E would.

    The value is the gap between the best and the worst patch size (with its temporal stride) at each shared E, averaged, over the fitted
    slope. Scatter alone causes gaps, so that the interval's lower end is the lower one of the percentile and the reversed percentile
    interval.
    """

    def wording(metric: str) -> str:
        return f"{metric}: at equal E the code's shape hardly matters"

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        places, x = _shapes_by_floats(found.rows), np.log2([float(row["E"]) for row in found.rows])
        if not places:
            raise VitokError("no two patch sizes share a value of E")
        gap = float(_gaps_in_doublings(found.values[None], places, x)[0])

        def interval_with(more: float) -> Interval:
            low, high = percentile_interval(_gaps_in_doublings(found.draws(more), places, x))
            return max(0.0, min(low, 2 * gap - high)), high

        narrower = MORE_IMAGES if found.images is not None else ""
        settled = seeds_to_decide(interval_with, stays_within(at_most), found.deviation is not None, narrower)
        low, high = settled.interval
        evidence = (
            f"at equal E the patch size changes {metric} by as much as {gap:.2f} doublings of E would "
            f"(95 % interval {low:.2f} to {high:.2f} over {found.over}); at most {at_most:g} is asked"
        )
        said = join_sentences(evidence, *found.notes, settled.reason)
        return Judgement(settled.verdict, said, gap, settled.interval, f"{gap:.2g} doublings of E", settled.seeds_needed)

    return Claim(wording, source, (canonical_names(metrics),), at_most, judge)


def _shapes_by_floats(rows: list[Row]) -> list[list[list[int]]]:
    """Return, for each E that two shapes (p, q) share, the indices of the settings of each shape."""
    shared: dict[float, dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, row in enumerate(rows):
        shared[row["E"]][row["p"], row.get("q", 1)].append(i)
    return [list(shapes.values()) for shapes in shared.values() if len(shapes) > 1]


def _gaps_in_doublings(draws: np.ndarray, places: list[list[list[int]]], x: np.ndarray) -> np.ndarray:
    """Return the mean gap between shapes (draws,), in doublings of E, of drawn means (draws, settings)."""
    gaps = [np.ptp([draws[:, shape].mean(1) for shape in shapes], axis=0) for shapes in places]
    centred = x - x.mean()
    return np.mean(gaps, axis=0) / np.abs(draws @ centred / (centred @ centred))
