"""The claim that a setting is the best of all that were tried (Figure 13)."""

import numpy as np

from vitok.errors import VitokError
from vitok.study.claims.claim import Claim, Judgement, Metrics, amount, exceeds, preferred, sentences, sign, within
from vitok.study.claims.differences import Selection, chosen, cohens_d, told
from vitok.study.claims.effects import means
from vitok.study.claims.seeds import IMAGES, settle
from vitok.study.fit import Interval
from vitok.study.study import Row


def ranked_first(metrics: Metrics, best: Selection, *, source: str, among: Selection | None = None, name: str = "") -> Claim:
    """The setting `best` (the mean of several) is better than every other of `among`; without it than every other of the study.

    The value is the gain over the next best. Its lower end is the least of the gains' lower ends over each other setting; its upper
    end the least of their upper ends, at 2.5 % divided by their number, for each could be that low by chance.
    """
    first = name or told(best)

    def words(metric: str) -> str:
        return f"{first} has the best {metric}" + (f" with {told(among)}" if among else "")

    def judge(rows: list[Row], metric: str) -> Judgement:
        found = means(rows, metric)
        is_best = chosen(found.rows, best)
        others = np.flatnonzero(chosen(found.rows, among or {}) & ~is_best)
        if not is_best.any() or not len(others):
            raise VitokError(f"{metric} was measured in {int(is_best.sum())} settings with {told(best)} and {len(others)} others")
        toward = sign(metric) * (is_best / is_best.sum() - np.eye(len(found.values))[others])  # (others, settings)

        def known(more: float) -> Interval:
            gains = found.draws(more) @ toward.T
            low, high = np.quantile(gains, 0.025, axis=0), np.quantile(gains, 1 - 0.025 / len(others), axis=0)
            return float(low.min()), float(high.min())

        settled = settle(known, exceeds(0), found.deviation is not None, IMAGES if found.images is not None else "")
        gains = toward @ found.values
        next_best = int(np.argmin(gains))
        gain, row = float(gains[next_best]), found.rows[others[next_best]]
        firsts = float(np.mean((found.draws() @ toward.T > 0).all(axis=1)))
        evidence = sentences(
            f"over {row.get('setting', row['cell'])}, the best of {len(others)} other settings, {first} gains "
            f"{amount(gain, metric, signed=True)} {within(settled.interval, found.over)}",
            f"it is first in {firsts:.1%} of draws", *found.notes, settled.reason,
        )  # fmt: skip
        return Judgement(settled.verdict, evidence, gain, settled.interval, cohens_d(found, toward[next_best], gain), settled.seeds_needed)

    return Claim(words, source, (preferred(metrics),), 0.0, judge)
