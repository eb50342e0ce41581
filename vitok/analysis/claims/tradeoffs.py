"""The claim that what improves one metric worsens another (Figure 9, Finding 4)."""

import numpy as np

from vitok.analysis.claims.claim import Claim, Judgement, Metrics, Opinion, amount, preferred, sentences, sign
from vitok.analysis.claims.effects import Means, means
from vitok.analysis.claims.seeds import IMAGES, settle
from vitok.analysis.fits.log_linear import Interval, interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError

CHANCE = 0.05  # so probable an order, were the two metrics unrelated, supports nothing


def trades_off(quality: Metrics, fidelity: Metrics, *, source: str) -> Claim:
    """Over the settings, what improves a metric of quality worsens one of fidelity: Kendall's tau-b of the two, each counted as
    positive where it improves, is below 0.

    Its interval: as seeds and images scatter. It says how sure the order of these settings is, not whether so few could be ordered so
    by chance: for that all orders are counted (Kendall's exact test), and support needs one that is rarer than 5 %.
    """

    def words(better: str, worse: str) -> str:
        return f"what improves {better} worsens {worse}"

    def judge(rows: list[Row], better: str, worse: str) -> Judgement:
        from scipy.stats import kendalltau

        both = [row for row in rows if better in row and worse in row and np.isfinite([row[better], row[worse]]).all()]
        first, second = means(both, better), means(both, worse)
        signs = sign(better) * sign(worse)
        if len(first.values) < 3 or not np.ptp(first.values) or not np.ptp(second.values):
            raise VitokError(f"{better} and {worse} need three settings that differ in both, there are {len(first.values)} settings")
        tau = float(_kendall(first.values[None], signs * second.values[None])[0])
        chance = float(kendalltau(first.values, signs * second.values, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]

        def known(more: float) -> Interval:
            return interval(_kendall(first.draws(more), signs * second.draws(more)))

        def decide(bounds: Interval) -> Opinion:
            if bounds[0] >= 0:
                return "not supported"
            return "supported" if bounds[1] < 0 and chance <= CHANCE else "inconclusive"

        narrower = IMAGES if first.images is not None or second.images is not None else ""
        settled = settle(known, decide, first.deviation is not None, narrower)
        reason, needed = settled.reason, settled.seeds_needed
        if settled.verdict == "inconclusive" and tau < 0 and chance > CHANCE:
            reason, needed = "that is no rarer than 5 %: more settings, not seeds, would settle it", None
        low, high = settled.interval
        evidence = sentences(
            f"Kendall's tau = {tau:.2f} (95 % interval {low:.2f} to {high:.2f} over {len(first.values)} settings; {first.over})",
            f"of all orders of unrelated metrics {chance:.2g} are as opposed",
            _extremes(first, second), reason,
        )  # fmt: skip
        return Judgement(settled.verdict, evidence, tau, settled.interval, f"Kendall's tau = {tau:.2f}", needed)

    return Claim(words, source, (preferred(quality), preferred(fidelity)), 0.0, judge)


def _kendall(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(draws,) tau-b of two arrays (draws, settings)."""
    i, j = np.triu_indices(first.shape[1], 1)
    a, b = np.sign(first[:, i] - first[:, j]), np.sign(second[:, i] - second[:, j])
    pairs = np.sqrt(np.abs(a).sum(1) * np.abs(b).sum(1))
    return (a * b).sum(1) / np.maximum(pairs, 1)  # a draw in which all are equal has no order: 0


def _extremes(first: Means, second: Means) -> str:
    ends = [int(np.argmax(sign(one.metric) * one.values)) for one in (first, second)]
    said = []
    for end, best in zip(ends, (first.metric, second.metric), strict=True):
        values = " and ".join(f"{one.metric} {amount(float(one.values[end]), one.metric)}" for one in (first, second))
        said.append(f"best in {best} is {first.rows[end].get('setting', first.rows[end]['cell'])} ({values})")
    return ", ".join(said)
