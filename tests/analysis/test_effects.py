"""The statistics of differences, and how many seeds would settle one."""

import json

import numpy as np
import pytest
from scipy import stats

from tests.analysis.made_up import study
from vitok.analysis.claims import better
from vitok.analysis.claims.claim import exceeds
from vitok.analysis.claims.setting_means import means
from vitok.analysis.fits.bootstrap import percentile_interval
from vitok.analysis.rows import Row
from vitok.errors import VitokError

PAIR = [{"x": "a", "value": 20.0}, {"x": "b", "value": 20.5}]
BETTER = better("rPSNR", {"x": "b"}, {"x": "a"}, source="")


def test_two_settings_without_images_are_a_pooled_t_test() -> None:
    """2000 draws: an end's Monte Carlo deviation is 3 % of the half-width."""
    rows = study(PAIR, "rPSNR", seeds=4, deviation=0.2)
    values = [[row["rPSNR"] for row in rows if row["x"] == x] for x in "ba"]
    wanted = stats.ttest_ind(*values).confidence_interval()
    found = means(rows, "rPSNR")
    low, high = percentile_interval(found.draws() @ [-1, 1])
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.12 * (wanted.high - wanted.low) / 2)
    assert found.degrees_of_freedom == 6 and found.deviation == pytest.approx(np.sqrt(np.mean([np.var(one, ddof=1) for one in values])))


def test_one_seed_with_images_is_a_paired_t_test() -> None:
    rows = study(PAIR, "rPSNR", seeds=1, images=12, interaction=0.4)
    a, b = (row["per_image"]["rPSNR"] for row in rows)
    wanted = stats.ttest_rel(b, a).confidence_interval()
    low, high = percentile_interval(means(rows, "rPSNR").draws() @ [-1, 1])
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.2 * (wanted.high - wanted.low) / 2)


@pytest.mark.parametrize(("seeds", "deviation", "interaction"), [(2, 0.2, 0.5), (3, 0.2, 0.0), (1, 0.0, 0.5)])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int, deviation: float, interaction: float) -> None:
    """300 intervals of 95 %: fewer than 270 would be 4 deviations off. The truth is over all images: those drawn are a sample."""
    settings = [{"value": 20.0}, {"value": 21.0}, {"value": 22.0}, {"value": 23.0}]
    hits = 0
    for start in range(300):
        found = means(study(settings, "rPSNR", seeds, deviation, 48, interaction, start), "rPSNR")
        low, high = percentile_interval(found.draws() @ [-1, 1, 0, 0])
        hits += low <= 1 <= high
    assert 270 <= hits <= 299


def test_frechet_distances_scatter_in_proportion() -> None:
    """By the same factor at 1 and at 100: in the metric's unit the scatter of one would drown the other."""
    hits = 0
    for start in range(300):
        found = means(study([{"value": 1.0}, {"value": 1.2}, {"value": 100.0}], "rFID", 2, 0.1, start=start), "rFID")
        low, high = percentile_interval(found.draws() @ [-1, 1, 0])
        hits += low <= 0.2 <= high
        assert found.proportional and high - low < 10
    assert 270 <= hits <= 299


def test_one_seed_without_images_has_no_interval() -> None:
    with pytest.raises(VitokError, match="rFID needs at least 2 seeds"):
        means(study(PAIR, "rFID", seeds=1), "rFID").draws()
    rows = study([setting | {"value": 20} for setting in PAIR], "rFID", seeds=1)
    judged = better("rFID", {"x": "b"}, {"x": "a"}, source="")(rows)
    assert judged.verdict == "inconclusive" and judged.seeds_needed is None
    assert json.loads(json.dumps(judged.json(), allow_nan=False))["interval"] == [None, None]


def test_one_seed_with_images_says_what_is_not_in_it() -> None:
    judged = BETTER(study(PAIR, "rPSNR", seeds=1, deviation=0.0, images=64, interaction=0.2))
    assert judged.verdict == "supported" and "64 held-out images, one seed a setting: how seeds scatter is not in it" in judged.evidence
    judged = BETTER(study(PAIR, "rPSNR", seeds=1, deviation=0.0, images=64, interaction=9.0))
    assert judged.verdict == "inconclusive" and judged.seeds_needed is None
    assert "does not tell whether more seeds would settle it; more held-out images would narrow it" in judged.evidence


def test_images_that_dominate_are_told() -> None:
    judged = BETTER(study(PAIR, "rPSNR", seeds=3, deviation=0.01, images=32, interaction=4.0))
    assert judged.verdict == "inconclusive" and judged.seeds_needed is None
    assert "more held-out images, not seeds, would narrow it" in judged.evidence


def cells(seeds: int, gain: float = 0.5, deviation: float = 1.0) -> list[Row]:
    """Of two settings, with this gain and this pooled deviation exactly, whatever the number of seeds."""
    normal = np.random.default_rng(0).standard_normal(seeds)
    scatter = deviation * (normal - normal.mean()) / normal.std(ddof=1)
    return [
        {"cell": f"{x}{seed}", "setting": x, "x": x, "seed": seed, "rPSNR": 20 + gain * (x == "b") + float(scatter[seed])}
        for x in "ab"
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("seeds", [2, 4])
def test_so_many_more_seeds_settle_it(seeds: int) -> None:
    """With the mean and the deviation as they were. Exact: the t interval of 2n cells; 10 % less or more by 2000 draws."""
    judged = BETTER(cells(seeds, gain=1.2))
    assert judged.verdict == "inconclusive" and judged.seeds_needed is not None
    assert f"about {judged.seeds_needed} more seeds a cell would settle it" in judged.evidence
    needed = seeds + judged.seeds_needed
    assert BETTER(cells(needed + 1, gain=1.2)).verdict == "supported"
    assert BETTER(cells(needed - 2, gain=1.2)).verdict == "inconclusive"
    exact = next(n for n in range(2, 99) if stats.t.ppf(0.975, 2 * n - 2) * np.sqrt(2 / n) < 1.2)
    assert abs(needed - exact) <= 1


def test_a_value_on_the_bound_is_not_settled_by_seeds() -> None:
    judged = BETTER(cells(3, gain=0.01))
    assert judged.seeds_needed is None and "even 32 more seeds a cell would not settle it" in judged.evidence


def test_cells_without_a_number_are_left_out_and_told() -> None:
    rows = study(PAIR, "rPSNR")
    rows[0]["rPSNR"] = float("nan")
    assert "rPSNR is no finite number in 1 of 6 cells" in BETTER(rows).evidence
    assert exceeds(0)((0.0, 0.0)) == "not supported", "equal is not better"


def test_views_of_one_image_count_as_one() -> None:
    """Crops of four photographs, alike within each: as sure as four images make it, not as their 128 crops would."""
    rng = np.random.default_rng(0)
    gains = np.repeat(rng.standard_normal(4), 32) + 1.0
    base = rng.standard_normal(128)
    rows = [
        {"cell": name, "setting": name, "x": x, "rPSNR": float(values.mean()), "per_image": {"rPSNR": values.tolist(), "sample": shown}}
        for shown in [np.repeat(np.arange(4), 32).tolist()]
        for name, x, values in (("a", 1, base + gains), ("b", 2, base))
    ]
    judged = better("rPSNR", {"x": 1}, {"x": 2}, source="")(rows)
    assert "4 held-out images" in judged.evidence
    alone = stats.ttest_1samp(gains[::32], 0).confidence_interval(0.95)  # pyright: ignore[reportAttributeAccessIssue]
    assert judged.interval == pytest.approx((alone.low, alone.high), rel=0.35), "a bootstrap of four, widened to t with 3 degrees"
    for row in rows:
        row["per_image"].pop("sample")
    narrow = better("rPSNR", {"x": 1}, {"x": 2}, source="")(rows)
    assert np.ptp(narrow.interval) < np.ptp(judged.interval) / 3
