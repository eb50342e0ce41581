"""Each claim, in all three verdicts, on cells that are made up."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from tests.analysis.made_up import Settings, merged, study
from vitok.analysis import claims
from vitok.analysis.claims.claim import Judgement
from vitok.analysis.rows import Row
from vitok.errors import UsageError

FID = ("rFID", "rFD-EffLite0")


def finite(judged: claims.Verdict) -> claims.Verdict:
    """Whatever is found can be written and read, and has an effect."""
    json.dumps(judged.json(), allow_nan=False)
    assert judged.effect or np.isnan(judged.value)
    assert judged.verdict == "inconclusive" or judged.seeds_needed is None
    if np.isfinite(judged.value):
        assert judged.interval[0] <= judged.value <= judged.interval[1]
    return judged


def sizes(encoder: float, decoder: float) -> Settings:
    """Encoders and decoders of three sizes: a value of 25 and so much for each doubling of either."""
    return [
        {"encoder_params_m": 43.0 * e, "decoder_params_m": 43.0 * d, "value": 25 + encoder * np.log2(e) + decoder * np.log2(d)}
        for e, d in itertools.product((1, 2, 4), repeat=2)
    ]


def test_a_claim_says_what_it_lacks_before_anything_runs() -> None:
    claim = claims.trades_off(FID, "rPSNR", source="Finding 4")
    assert claim.lacking(("rPSNR", "rFD-EffLite0")) == ""
    line = "“what improves rFID worsens rPSNR” (Finding 4) needs rFID or rFD-EffLite0; measured is rPSNR, rSSIM"
    assert claim.lacking(("rPSNR", "rSSIM")) == line
    assert claim.lacking(()).endswith("needs rFID or rFD-EffLite0 and rPSNR; measured is nothing")
    assert claim.metrics == (FID, ("rPSNR",)) and claim.source == "Finding 4"
    with pytest.raises(UsageError, match="unknown metric 'rPSNRR'"):
        claims.correlates("rPSNRR", source="")


def test_no_verdict_without_an_interval() -> None:
    with pytest.raises(ValueError, match="supported without an interval"):
        Judgement("supported", "")
    judged = claims.better(FID, {"x": 1}, {"x": 2}, source="")([{"cell": "a", "rPSNR": 1.0, "per_image": {}}])
    assert judged.verdict == "inconclusive" and "rFID was measured, by one protocol, in no cell" in judged.evidence


@pytest.mark.parametrize(("gain", "verdict"), [(-1.0, "supported"), (1.0, "not supported"), (0.0, "inconclusive")])
def test_better_knows_the_direction_and_takes_what_was_measured(gain: float, verdict: str) -> None:
    settings = [{"loss.lpips": 1.0, "value": 5.0 + gain}, {"loss.lpips": "0.0", "value": 5.0}, {"loss.lpips": 0.5, "value": 9.0}]
    rows = study(settings, "rFD-EffLite0", deviation=0.02)
    judged = finite(claims.better(FID, {"loss.lpips": "1"}, {"loss.lpips": 0}, source="Finding 4")(rows))
    assert judged.verdict == verdict and judged.claim == "rFD-EffLite0 is better with LPIPS weight = 1 than with LPIPS weight = 0"
    if gain:
        assert judged.value == pytest.approx(-gain, abs=0.3) and "Cohen's d = " in judged.effect


def test_better_is_matched() -> None:
    """The settings with b are all of large E: without matching it is E that is compared."""
    settings = [{"x": "a", "E": 64, "value": 20.0}, {"x": "a", "E": 256, "value": 24.0}, {"x": "b", "E": 256, "value": 23.0}]
    rows = study(settings, "rPSNR", images=32)
    assert claims.better("rPSNR", {"x": "b"}, {"x": "a"}, source="")(rows).verdict == "supported"
    judged = claims.better("rPSNR", {"x": "b"}, {"x": "a"}, matched_on=("E",), source="")(rows)
    assert judged.verdict == "not supported" and judged.claim.endswith(", at equal E")
    assert "3 seeds and 32 held-out images" in judged.evidence
    nowhere = claims.better("rPSNR", {"E": 64}, {"E": 256}, matched_on=("E", "p"), source="")(rows)
    assert "no cells with E = 64 and with E = 256 are equal in E, p" in nowhere.evidence


@pytest.mark.parametrize(("gain", "verdict"), [(0.02, "supported"), (1.0, "not supported"), (0.2, "inconclusive")])
def test_no_better_has_a_margin(gain: float, verdict: str) -> None:
    rows = study([{"x": 1, "value": 20 + gain}, {"x": 2, "value": 20.0}], "rPSNR", seeds=5, deviation=0.05)
    assert finite(claims.no_better("rPSNR", {"x": 1}, {"x": (2, 3)}, at_most=0.2, source="")(rows)).verdict == verdict


@pytest.mark.parametrize(("slope", "helps", "does_not"), [(1.0, "supported", "not supported"), (0.0, "not supported", "supported")])
def test_scaling_is_judged_at_equal_other_sizes(slope: float, helps: str, does_not: str) -> None:
    rows = study(sizes(0.0, slope), "rPSNR", deviation=0.05, images=16)
    judged = finite(claims.scaling_helps("rPSNR", at_least=1.0, source="Figure 6")(rows))
    assert judged.verdict == helps and judged.value == pytest.approx(2 * slope, abs=0.15)
    assert "for each doubling of decoder size" in judged.effect
    along = claims.scaling_does_not_help("rPSNR", along="decoder_params_m", matched_on=("encoder_params_m",), at_most=1.0, source="")
    assert finite(along(rows)).verdict == does_not
    assert finite(claims.scaling_does_not_help("rPSNR", at_most=0.3, source="Figure 5")(rows)).verdict == "supported"


def test_scaling_that_is_not_told_stays_open() -> None:
    rows = study(sizes(0.0, 0.5), "rPSNR", seeds=2, deviation=0.6)
    judged = finite(claims.scaling_helps("rPSNR", at_least=1.0, source="")(rows))
    assert judged.verdict == "inconclusive"
    alone = [row for row in rows if row["decoder_params_m"] == 43.0]
    assert (
        "no two cells differ in decoder size, at equal encoder size"
        in claims.scaling_helps("rPSNR", at_least=1.0, source="")(alone).evidence
    )


@pytest.mark.parametrize(("metric", "toward"), [("rPSNR", 1), ("LPIPS", -1)])
def test_correlation_knows_the_direction(metric: str, toward: int) -> None:
    settings = [{"E": 2**e, "gmacs": 2.0**e, "value": 2.0 * toward * e} for e in range(6, 12)]
    rows = study(settings, metric, seeds=2, deviation=0.3)
    judged = finite(claims.correlates(metric, along="gmacs", source="")(rows))
    wanted = stats.pearsonr(np.log2([row["gmacs"] for row in rows]), [row[metric] for row in rows])[0]
    assert judged.verdict == "supported" and judged.value == pytest.approx(toward * wanted)
    assert judged.claim == f"{metric} {'grows' if toward > 0 else 'falls'} linearly with log compute"
    assert claims.grows_with_floats(metric, at_least=0.9, source="")(rows).value == judged.value
    turned = [row | {metric: -row[metric]} for row in rows]
    assert finite(claims.correlates(metric, source="")(turned)).verdict == "not supported"


def test_a_correlation_of_some_cells_is_theirs_alone() -> None:
    line = [{"E": 2**e, "kind": "latent", "value": 2.0 * e} for e in range(6, 11)]
    wild = [{"E": 2**e, "kind": "simple", "value": 9.0 * (-1) ** e} for e in range(6, 11)]
    latent, both = study(line, "rPSNR"), study([*line, *wild], "rPSNR")
    claim = claims.correlates("rPSNR", at_least=0.99, of={"kind": "latent"}, name_of="latent tokens", source="")
    judged = finite(claim(both))
    assert judged.verdict == "supported" and judged.claim == "rPSNR with latent tokens grows linearly with log E"
    assert finite(claim(latent)).evidence == judged.evidence


def test_seeds_help_a_correlation_only_where_they_scatter() -> None:
    line = [{"E": 2**e, "value": 1.0 * e} for e in range(6, 12)]
    judged = finite(claims.correlates("rPSNR", at_least=0.83, source="")(study(line, "rPSNR", deviation=0.9)))
    assert judged.verdict == "inconclusive" and judged.seeds_needed == 9 and "more seeds a cell would settle it" in judged.evidence
    bent = [setting | {"value": setting["value"] + 2 * (-1) ** i} for i, setting in enumerate(line)]
    judged = finite(claims.correlates("rPSNR", at_least=0.7, source="")(study(bent, "rPSNR", seeds=2, deviation=0.01)))
    assert judged.verdict == "inconclusive" and judged.seeds_needed is None and "more values of E, not seeds" in judged.evidence


def resolutions(factor: float, noise: float = 0.03, start: int = 0, metric: str = "rPSNR", images: int = 0, up: float = 2.0) -> list[Row]:
    """Two sizes, the larger of which needs `factor` times the floats; settings lie off their lines by `noise`."""
    rng = np.random.default_rng(1000 + start)
    settings = [
        {
            "size": size,
            "E": floats,
            "value": 2 + up * (np.log2(floats) - (np.log2(factor) if size == 64 else 0)) + noise * rng.standard_normal(),
        }
        for size, all_floats in ((32, (64, 256, 512, 1024)), (64, (256, 1024, 2048, 4096)))
        for floats in all_floats
    ]
    return study(settings, metric, seeds=1, deviation=0.0, images=images, interaction=noise, start=start)


@pytest.mark.parametrize(
    ("factor", "noise", "verdict"), [(4.0, 0.03, "supported"), (12.0, 0.03, "not supported"), (4.0, 2.0, "inconclusive")]
)
def test_floats_are_needed_in_proportion(factor: float, noise: float, verdict: str) -> None:
    judged = finite(claims.needs_floats("rPSNR", between="size", ratio=4.0, source="Figure 12")(resolutions(factor, noise, images=16)))
    assert judged.verdict == verdict
    if noise < 1:
        assert judged.value == pytest.approx(factor, rel=0.1) and "times the floats" in judged.effect


@pytest.mark.parametrize(
    ("factor", "noise", "verdict"), [(2.0, 0.03, "supported"), (8.0, 0.03, "not supported"), (4.0, 0.3, "inconclusive")]
)
def test_fewer_floats_are_needed_than_in_proportion(factor: float, noise: float, verdict: str) -> None:
    assert finite(claims.needs_floats("rPSNR", between="size", at_most=4.0, source="")(resolutions(factor, noise))).verdict == verdict


def test_the_ratios_interval_holds_the_truth_as_often_as_it_says() -> None:
    """300 intervals of 95 %, from eight settings: within 4 deviations."""
    claim, hits = claims.needs_floats("rPSNR", between="size", ratio=4.0, source=""), 0
    for start in range(300):
        low, high = claim(resolutions(4.0, 0.4, start)).interval
        hits += low <= 4.0 <= high
    assert 270 <= hits <= 298


def test_a_ratio_that_cannot_be_read_off_stays_open() -> None:
    judged = finite(claims.needs_floats("rPSNR", between="size", at_most=1e9, source="")(resolutions(1e6)))
    assert judged.verdict == "inconclusive" and "do not overlap" in judged.evidence and "extrapolation" in judged.evidence
    judged = claims.needs_floats("rPSNR", between="size", ratio=4.0, source="")(resolutions(4.0, 0.5, up=0.001))
    assert judged.verdict == "inconclusive" and "not bounded" in judged.evidence and judged.json()["interval"] == [0.0, None]
    one = [row for row in resolutions(4.0) if row["size"] == 32]
    assert (
        "two values of size are to be compared, there are 32"
        in claims.needs_floats("rPSNR", between="size", ratio=4, source="")(one).evidence
    )
    with pytest.raises(UsageError, match="either ratio or at_most"):
        claims.needs_floats("rPSNR", between="size", source="")


def losses(opposed: bool, count: int = 6, deviation: float = 0.02) -> list[Row]:
    quality = study([{"x": x, "value": 5.0 - 0.6 * x} for x in range(count)], "rFID", 2, deviation)
    fidelity = study([{"x": x, "value": 25 + (-0.4 if opposed else 0.4) * x} for x in range(count)], "rPSNR", 2, deviation, 16)
    return merged(quality, fidelity)


def test_a_trade_off_is_judged_by_the_order() -> None:
    claim, rows = claims.trades_off(FID, ("rPSNR", "rSSIM"), source="Finding 4"), losses(True)
    judged = finite(claim(rows))
    values = {row["x"]: (row["rFID"], row["rPSNR"]) for row in rows}
    wanted = stats.kendalltau([-fid for fid, _ in values.values()], [psnr for _, psnr in values.values()], alternative="less")
    assert judged.verdict == "supported" and judged.value == pytest.approx(wanted.statistic) == -1  # pyright: ignore[reportAttributeAccessIssue]
    assert "of all orders of unrelated metrics 0.0014 are as opposed" in judged.evidence  # 1 / 6!
    assert "best in rFID is 5 (" in judged.evidence and "best in rPSNR is 0 (" in judged.evidence
    assert finite(claim(losses(False))).verdict == "not supported"
    assert finite(claim(losses(True, deviation=0.6))).verdict == "inconclusive"


def test_three_settings_are_no_trade_off() -> None:
    judged = finite(claims.trades_off(FID, "rPSNR", source="")(losses(True, 3)))
    assert judged.verdict == "inconclusive" and "0.17 are as opposed" in judged.evidence and "more settings" in judged.evidence


@pytest.mark.parametrize(("weight", "verdict"), [(0.05, "supported"), (0.1, "not supported"), (0.02, "inconclusive")])
def test_the_best_of_all(weight: float, verdict: str) -> None:
    settings = [{"gan.weight": w, "gan.lr": 2e-5, "value": v} for w, v in ((0.05, 1.0), (0.1, 2.0), (0.2, 3.0))]
    if verdict == "inconclusive":
        settings.append({"gan.weight": 0.02, "gan.lr": 2e-5, "value": 1.0})
    rows = study(settings, "rFID", deviation=0.05)
    judged = finite(claims.ranked_first(FID, {"gan.weight": weight, "gan.lr": "2e-05"}, source="Figure 13")(rows))
    assert judged.verdict == verdict and judged.claim == f"GAN weight = {weight}, discriminator lr = 2e-05 has the best rFID"
    assert f"the best of {len(settings) - 1} other settings" in judged.evidence


def test_a_bad_one_is_seldom_called_the_best_nor_a_best_one_refused() -> None:
    """Where all of five are equal, each error is to be rarer than 2.5 %; 6 of 60 are 4 deviations."""
    claim, wrong = claims.ranked_first("rPSNR", {"x": 0}, source=""), {"supported": 0, "not supported": 0, "inconclusive": 0}
    for start in range(60):
        wrong[claim(study([{"x": x, "value": 20.0} for x in range(5)], "rPSNR", start=start)).verdict] += 1
    assert wrong["supported"] <= 6 and wrong["not supported"] <= 6


def test_shapes_of_unpaired_metrics_are_judged_by_seeds() -> None:
    settings = [{"E": 64 * c * (4 if p == 4 else 1), "p": p, "c": c, "value": 4.0 - 0.1 * np.log2(c)} for p in (4, 8) for c in (4, 16, 64)]
    flat = [setting | {"value": 8 - 0.5 * np.log2(setting["E"])} for setting in settings]
    assert finite(claims.shape_is_free("rFID", at_most=1.0, source="")(study(flat, "rFID", deviation=0.01))).verdict == "supported"
    assert claims.shape_is_free("rFID", at_most=1.0, source="")(study(flat, "rFID", seeds=1)).verdict == "inconclusive"
