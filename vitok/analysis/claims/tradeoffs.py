"""The claim that improving one metric worsens another (Figure 9, Finding 4)."""

import numpy as np

from vitok.analysis.claims.claim import (
    Claim,
    Judgement,
    MetricPreference,
    Outcome,
    canonical_names,
    direction,
    format_value,
    join_sentences,
)
from vitok.analysis.claims.seeds import MORE_IMAGES, seeds_to_decide
from vitok.analysis.claims.setting_means import SettingMeans, means
from vitok.analysis.fits.bootstrap import Interval, percentile_interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError

CHANCE_LEVEL = 0.05  # an order that is more probable than this by chance supports nothing


def trades_off(quality: MetricPreference, fidelity: MetricPreference, *, source: str) -> Claim:
    """Claim that over the settings Kendall's tau-b of a metric of quality and one of fidelity, each counted as positive where it improves,
    is below 0.

    The interval reflects the scatter of seeds and images. It says how certain the order of these settings is, not whether so few settings
    could be ordered so by chance. For that, all orders are counted (Kendall's exact test), and support needs an order that is rarer than 5
    %.
    """

    def wording(better: str, worse: str) -> str:
        return f"what improves {better} worsens {worse}"

    def judge(rows: list[Row], better: str, worse: str) -> Judgement:
        from scipy.stats import kendalltau

        both = [row for row in rows if better in row and worse in row and np.isfinite([row[better], row[worse]]).all()]
        first, second = means(both, better), means(both, worse)
        signs = direction(better) * direction(worse)
        if len(first.values) < 3 or not np.ptp(first.values) or not np.ptp(second.values):
            raise VitokError(f"{better} and {worse} need three settings that differ in both, there are {len(first.values)} settings")
        tau = float(_kendall_tau(first.values[None], signs * second.values[None])[0])
        chance = float(kendalltau(first.values, signs * second.values, alternative="less").pvalue)  # pyright: ignore[reportAttributeAccessIssue]

        def interval_with(more: float) -> Interval:
            return percentile_interval(_kendall_tau(first.draws(more), signs * second.draws(more)))

        def decide(bounds: Interval) -> Outcome:
            if bounds[0] >= 0:
                return "not supported"
            return "supported" if bounds[1] < 0 and chance <= CHANCE_LEVEL else "inconclusive"

        narrower = MORE_IMAGES if first.images is not None or second.images is not None else ""
        settled = seeds_to_decide(interval_with, decide, first.deviation is not None, narrower)
        reason, needed = settled.reason, settled.seeds_needed
        if settled.verdict == "inconclusive" and tau < 0 and chance > CHANCE_LEVEL:
            reason, needed = "that is no rarer than 5 %: more settings, not seeds, would settle it", None
        low, high = settled.interval
        evidence = join_sentences(
            f"Kendall's tau = {tau:.2f} (95 % interval {low:.2f} to {high:.2f} over {len(first.values)} settings; {first.over})",
            f"of all orders of unrelated metrics {chance:.2g} are as opposed",
            _best_settings_text(first, second), reason,
        )  # fmt: skip
        return Judgement(settled.verdict, evidence, tau, settled.interval, f"Kendall's tau = {tau:.2f}", needed)

    return Claim(wording, source, (canonical_names(quality), canonical_names(fidelity)), 0.0, judge)


def _kendall_tau(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Kendall's tau-b (draws,) of two arrays (draws, settings)."""
    i, j = np.triu_indices(first.shape[1], 1)
    a, b = np.sign(first[:, i] - first[:, j]), np.sign(second[:, i] - second[:, j])
    pairs = np.sqrt(np.abs(a).sum(1) * np.abs(b).sum(1))
    return (a * b).sum(1) / np.maximum(pairs, 1)  # a draw of equal values has no order: tau is 0


def _best_settings_text(first: SettingMeans, second: SettingMeans) -> str:
    """Name the best setting in each of the two metrics, with its values."""
    ends = [int(np.argmax(direction(one.metric) * one.values)) for one in (first, second)]
    said = []
    for end, best in zip(ends, (first.metric, second.metric), strict=True):
        values = " and ".join(f"{one.metric} {format_value(float(one.values[end]), one.metric)}" for one in (first, second))
        said.append(f"best in {best} is {first.rows[end].get('setting', first.rows[end]['cell'])} ({values})")
    return ", ".join(said)
