import numpy as np
import pytest
from scipy import stats

from vitok.analysis import claims
from vitok.analysis.fits.lines import log_linear
from vitok.analysis.rows import Row
from vitok.errors import VitokError


def rows(noise: float = 0.2, gap: float = 0.0, count: int = 40) -> list[Row]:
    """Cells of two patch sizes: 2 dB for each doubling of E, `gap` dB between the patch sizes."""
    rng = np.random.default_rng(0)
    found: list[Row] = []
    for p, tokens in ((4, 64), (8, 16)):
        for c in (4, 16, 64):
            value = 2 * np.log2(tokens * c) + noise * rng.standard_normal() + (gap if p == 4 else 0)
            images = value + rng.standard_normal(count)
            images += value - images.mean()
            found.append({"cell": f"{p}-{c}", "p": p, "c": c, "E": tokens * c, "rPSNR": value, "per_image": {"rPSNR": images.tolist()}})
    return found


def test_the_line_equals_scipys() -> None:
    table = rows()
    x, y = np.log2([row["E"] for row in table]), [row["rPSNR"] for row in table]
    fit, line = log_linear(table, "rPSNR"), stats.linregress(x, y)
    assert (fit.slope, fit.intercept) == pytest.approx((line.slope, line.intercept))  # pyright: ignore[reportAttributeAccessIssue]
    assert fit.pearson_r == pytest.approx(stats.pearsonr(x, y)[0])
    assert fit.spearman_rho == pytest.approx(stats.spearmanr(x, y)[0])
    assert fit.slope_interval[0] < 2 < fit.slope_interval[1]
    assert fit == log_linear(table, "rPSNR")


@pytest.mark.long
def test_the_interval_covers_as_often_as_it_says() -> None:
    """The bootstrap over 12 cells is known to be a little narrow: at least 80 of 100 intervals must hold the truth."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(100):
        table = [{"E": 2.0**e, "m": 2 * e + rng.standard_normal()} for e in range(6, 18)]
        low, high = log_linear(table, "m").slope_interval
        hits += low < 2 < high
    assert 80 <= hits <= 100


def test_too_few_sizes_are_refused() -> None:
    with pytest.raises(VitokError, match="three values of E, there are 2"):
        log_linear([{"E": 4, "m": 1.0}, {"E": 8, "m": 2.0}], "m")


@pytest.mark.parametrize(("noise", "verdict"), [(0.1, "supported"), (-0.1, "not supported"), (4.0, "inconclusive")])
def test_growth_is_judged_by_its_interval(noise: float, verdict: str) -> None:
    table = rows(abs(noise))
    if noise < 0:  # a metric that falls with E
        table = [row | {"rPSNR": -row["rPSNR"]} for row in table]
    judged = claims.grows_with_floats("rPSNR", at_least=0.9, source="")(table)
    assert judged.verdict == verdict
    assert judged.interval[0] <= judged.value <= judged.interval[1]


@pytest.mark.parametrize(("gap", "verdict"), [(0.5, "supported"), (6.0, "not supported"), (2.0, "inconclusive")])
def test_shape_is_judged_in_doublings(gap: float, verdict: str) -> None:
    judged = claims.shape_is_free("rPSNR", at_most=1.0, source="")(rows(0.0, gap))
    assert judged.verdict == verdict
    assert judged.value == pytest.approx(gap / (2 + 0.0), rel=0.35)


def test_shape_needs_a_shared_size() -> None:
    table = [row for row in rows() if row["p"] == 4]
    assert claims.shape_is_free("rPSNR", at_most=1.0, source="")(table).verdict == "inconclusive"
