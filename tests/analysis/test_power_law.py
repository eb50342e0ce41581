import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from vitok.analysis.fits import bootstrap
from vitok.analysis.fits.cross_validation import LeaveOneOut, value_groups
from vitok.analysis.fits.lines import log_linear
from vitok.analysis.fits.parabola import parabolas
from vitok.analysis.fits.power_laws import power_law
from vitok.analysis.model_selection import PARABOLAS, POWER, compare_fits
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.report.figures.floats import against_floats

IRREDUCIBLE, SCALE, EXPONENT = 0.3, 40.0, 0.6
METRIC = {  # what each kind of metric makes of a quantity that falls to a limit
    "rFID": lambda y: y, "LPIPS": lambda y: y / 20, "rPSNR": lambda y: -10 * np.log10(y / 100), "rSSIM": lambda y: 1 - y / 20,
    "rIS": lambda y: 1000 - y,
}  # fmt: skip
UNIT = {"rFID": 1, "LPIPS": 20, "rPSNR": 100, "rSSIM": 20, "rIS": 1}  # the quantity is y over this


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 300)


def rows(noise: float = 0.0, metric: str = "rFID", sizes: int = 8, seeds: int = 1, start: int = 0) -> list[Row]:
    """Cells of two patch sizes in turn; the scatter is a share of what is fitted."""
    rng = np.random.default_rng(start)
    floats = np.repeat(2.0 ** np.arange(6, 6 + sizes), seeds)
    y = (IRREDUCIBLE + SCALE * floats**-EXPONENT) * np.exp(noise * rng.standard_normal(len(floats)))
    return [
        {"p": (4, 8)[i // seeds % 2], "c": 4, "E": e, "seed": i % seeds, metric: float(METRIC[metric](v))}
        for i, (e, v) in enumerate(zip(floats, y, strict=True))
    ]


def columns(table: list[Row], metric: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row["E"] for row in table]), np.array([row[metric] for row in table])


@pytest.mark.parametrize("metric", METRIC)
def test_a_power_law_is_found_again(metric: str) -> None:
    """Without scatter, up to what a search to the square root of a double's precision leaves."""
    law = power_law(rows(metric=metric), metric)
    irreducible = (IRREDUCIBLE / UNIT[metric], SCALE / UNIT[metric], EXPONENT)
    assert (law.irreducible, law.scale, law.exponent) == pytest.approx(irreducible, rel=1e-5)
    for bounds, value in zip((law.irreducible_interval, law.scale_interval, law.exponent_interval), irreducible, strict=True):
        assert bounds == pytest.approx((value, value), rel=1e-4)
    assert law.limit == pytest.approx(METRIC[metric](IRREDUCIBLE), rel=1e-5)
    assert law.notes == () and law.leave_one_out.loo == pytest.approx(0, abs=1e-4) and law.leave_one_out.cells == 8
    curve, low, high = law.predict(np.array([50.0, 300.0, 1e5]))
    truth = METRIC[metric](IRREDUCIBLE + SCALE * np.array([50.0, 300.0, 1e5]) ** -EXPONENT)
    assert curve == pytest.approx(truth, rel=1e-5) and low == pytest.approx(truth, rel=1e-4) and high == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize("metric", ["rFID", "LPIPS", "rPSNR"])
def test_it_equals_scipys(metric: str) -> None:
    """curve_fit searches all three at once, from elsewhere and to its own tolerance of 1e-8 in the sum of squares: 1e-4 in what it
    finds."""
    table = rows(0.02, metric)
    x, y = columns(table, metric)
    y = 10 ** (-y / 10) if metric == "rPSNR" else y
    sigma = None if metric == "LPIPS" else y  # relative errors
    found, _ = optimize.curve_fit(lambda x, a, s, k: a + s * x**-k, x, y, (0.5 * y.min(), 10 * y.max(), 0.4), sigma, bounds=(0, np.inf))
    law = power_law(table, metric)
    assert (law.irreducible, law.scale, law.exponent) == pytest.approx(found, rel=1e-4)


def test_nothing_on_a_fine_grid_is_better() -> None:
    """Of cells whose best irreducible term would be negative: scipy's non-negative least squares at each of 2000 exponents."""
    table = [row | {"rFID": row["rFID"] - 0.5} for row in rows(0.02, sizes=6)]
    x, y = columns(table, "rFID")
    law = power_law(table, "rFID")
    assert law.irreducible == 0 and "bound of zero" in law.notes[0]
    ours = np.linalg.norm((law.irreducible + law.scale * x**-law.exponent) / y - 1)
    grid = np.geomspace(0.01, 5, 2000)
    others = [optimize.nnls(np.stack([1 / y, (x / 500) ** -k / y], axis=1), np.ones(len(x)))[1] for k in grid]
    assert ours <= min(others)
    assert law.exponent == pytest.approx(grid[np.argmin(others)], rel=4e-3)  # a step of the grid


def test_the_resamples_are_fits_of_their_own() -> None:
    """Each draw is the fit of a table that has its cells as often: here the first, with scipy alone."""
    table = rows(0.05)
    x, y = columns(table, "rFID")
    pick = bootstrap.bootstrap_indices(len(x), lambda pick: len(set(pick.tolist())) > 2)[0]
    a, s, k = power_law(table, "rFID").draws[0]

    def error(log_exponent: float) -> float:
        return optimize.nnls(np.stack([1 / y, (x / 500) ** -np.exp(log_exponent) / y], axis=1)[pick], np.ones(len(x)))[1]

    best = optimize.minimize_scalar(error, bounds=(np.log(k) - 0.5, np.log(k) + 0.5), method="bounded", options={"xatol": 1e-9})
    assert np.log(k) == pytest.approx(best.x, abs=1e-5)  # pyright: ignore[reportAttributeAccessIssue]
    assert np.linalg.norm((a + s * x**-k)[pick] / y[pick] - 1) == pytest.approx(error(np.log(k)), rel=1e-6)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of eight cells, 40 times: if 93 % held it, fewer than 32 would be 3.2 deviations off."""
    hits = np.zeros(3)
    for start in range(40):
        law = power_law(rows(0.05, start=start), "rFID")
        bounds = (law.irreducible_interval, law.scale_interval, law.exponent_interval)
        hits += [low <= value <= high for (low, high), value in zip(bounds, (IRREDUCIBLE, SCALE, EXPONENT), strict=True)]
        assert law.irreducible_interval[0] <= law.irreducible <= law.irreducible_interval[1]
    assert (hits >= 32).all()


def line(table: list[Row], metric: str, at: float) -> float:
    x, y = columns(table, metric)
    slope, intercept = np.polyfit(np.log2(x), y, 1)
    return slope * np.log2(at) + intercept


def law(table: list[Row], metric: str, at: float) -> float:
    return float(power_law(table, metric).predict(np.array([at]))[0][0])


@pytest.mark.parametrize(("kind", "least"), [(line, 3), (law, 4)])
@pytest.mark.parametrize("metric", ["rFID", "rPSNR"])
def test_leaving_one_out_equals_refits(kind: Any, least: int, metric: str) -> None:
    """All seeds of an E at once, each a new fit of a smaller table."""
    table = rows(0.05, metric, sizes=6, seeds=2)
    found = (log_linear if kind is line else power_law)(table, metric).leave_one_out
    floats = sorted({row["E"] for row in table})
    errors = {e: [kind([row for row in table if row["E"] != e], metric, e) - r[metric] for r in table if r["E"] == e] for e in floats}
    assert found.cells == 12
    assert found.loo == pytest.approx(np.sqrt(np.mean(np.square(list(errors.values())))), rel=1e-5)
    assert found.loo_ends == pytest.approx(np.sqrt(np.mean(np.square([errors[floats[0]], errors[floats[-1]]]))), rel=1e-5)
    few = (log_linear if kind is line else power_law)([row for row in table if row["E"] in floats[:least]], metric).leave_one_out
    assert few == LeaveOneOut(0, None, None, f"to predict a left-out E takes {least + 1} values of it")


def test_leaving_one_out_of_each_patch_size_equals_refits() -> None:
    """Parabolas of log rFID, errors in rFID itself."""
    table = rows(0.05, sizes=12)
    errors, ends = list[float](), list[float]()
    for p in (4, 8):
        group = [row for row in table if row["p"] == p]
        for i, row in enumerate(group):
            curves = parabolas(group[:i] + group[i + 1 :], "rFID")
            errors.append(float(curves.predict(p, np.array([row["E"]]))[0][0]) - row["rFID"])
            ends += [errors[-1]] if i in (0, len(group) - 1) else []
    found = parabolas(table, "rFID").leave_one_out
    assert (found.loo, found.loo_ends) == pytest.approx([np.sqrt(np.mean(np.square(each))) for each in (errors, ends)])
    assert parabolas(table[:6], "rFID").leave_one_out.note == "to predict a left-out E takes 4 values of it"


def test_near_values_of_a_column_are_one() -> None:
    """MACs of one patch size differ by a percent with c: two patch sizes are two values, however many c there are."""
    column = np.array([0.0404, 0.0098, 0.0099, 0.0409, 1.0, 1.04, 1.08])
    assert value_groups(column).tolist() == [1, 0, 0, 1, 2, 2, 3]
    table = [row | {"gmacs": 0.04 + 0.0001 * i if i < 4 else 0.01} for i, row in enumerate(rows())]
    with pytest.raises(VitokError, match=r"^a fit of rFID on log2 gmacs needs three values of gmacs, there are 2 \(5 within 5 % of each"):
        log_linear(table, "rFID", "gmacs")
    with pytest.raises(VitokError, match=r"^a power law of rFID in gmacs needs four values of gmacs, there are 2"):
        power_law(table, "rFID", "gmacs")


def test_another_column_is_fitted_alike() -> None:
    table = [row | {"gmacs": row["E"] / 1000} for row in rows(0.02)]
    one, other = power_law(table, "rFID"), power_law(table, "rFID", "gmacs")
    assert (one.exponent, one.irreducible, one.scale) == pytest.approx(
        (other.exponent, other.irreducible, other.scale * 1000**other.exponent)
    )
    assert log_linear(table, "rFID", "gmacs").slope == pytest.approx(log_linear(table, "rFID").slope)
    assert other.measured == (0.064, 8.192) and other.along == "gmacs"


def test_what_cannot_be_fitted_is_said() -> None:
    with pytest.raises(VitokError, match="needs four values of E, there are 3"):
        power_law(rows(sizes=3), "rFID")
    with pytest.raises(VitokError, match="rFID does not improve along E: there is no power law in it"):
        power_law([row | {"rFID": 1 / row["rFID"]} for row in rows()], "rFID")
    with pytest.raises(VitokError, match="needs four values of E, there are 0"):
        power_law([row | {"rFID": float("nan")} for row in rows()], "rFID")
    table = rows()
    table[0]["rFID"], table[1]["rFID"] = float("nan"), 0.0
    law = power_law(table, "rFID")
    assert law.cells == 6 and law.exponent == pytest.approx(EXPONENT, rel=1e-5)
    assert [note.split(",")[0] for note in law.notes] == [
        "rFID is not positive in 1 of 8 cells",
        "rFID or E is no number to fit in 1 of 7 cells",
    ]
    assert log_linear(table, "rFID").notes == ("rFID or E is no number to fit in 1 of 8 cells, which are left out",)


def test_bounds_are_said_to_be_reached() -> None:
    step = [row | {"rFID": 9.0 if row["E"] == 64 else 1.0 + 1e-4 * i} for i, row in enumerate(rows())]
    assert "the exponent is at its bound of 5: a step rather than a power" in power_law(step, "rFID").notes
    assert "the irreducible term is not told from zero" in power_law(rows(0.3, sizes=6), "rFID").notes


@pytest.mark.parametrize("metric", METRIC)
def test_json_has_no_nan(metric: str) -> None:
    table = [row | {metric: row[metric] + (20 if metric == "rPSNR" else 0)} for row in rows(0.1, metric, sizes=5)]
    for found in (power_law(table, metric), log_linear(table, metric), compare_fits(table, metric), power_law(table[:4], metric)):
        told = json.loads(json.dumps(found.json(), allow_nan=False))
        assert "draws" not in told and ("loo" in told or "kinds" in told)


def test_psnr_without_an_irreducible_error_has_no_limit() -> None:
    table = [row | {"rPSNR": 10 * np.log10(row["E"])} for row in rows()]
    law = power_law(table, "rPSNR")
    assert law.exponent == pytest.approx(1, rel=1e-5) and law.limit is None and law.limit_interval[1] is None


def test_the_kind_that_predicts_best_is_named() -> None:
    found = compare_fits(rows(0.03, "rPSNR", sizes=10), "rPSNR")
    assert found.best == POWER and set(found.kinds) == {POWER, PARABOLAS, "a line in log E"}
    assert found.sentence.startswith("A power law predicts left-out cells to 0.") and " dB, a" in found.sentence
    errors = [one.loo for one in found.kinds.values() if one.loo is not None]
    assert all(a <= b for a, b in pairwise(errors))
    straight = [row | {"rPSNR": 2 * np.log2(row["E"]) + 0.01 * i % 3} for i, row in enumerate(rows(sizes=10))]
    assert compare_fits(straight, "rPSNR").best == "a line in log E"


def test_only_kinds_that_predict_the_same_cells_are_compared() -> None:
    table = rows(0.03, sizes=10)
    some = compare_fits([row for row in table if row["p"] == 4 or row["E"] < 1000], "rFID")
    assert PARABOLAS not in some.kinds and f"Not compared: {PARABOLAS}: it predicts 5 of 7 cells." in some.sentence
    few = compare_fits(table[:4], "rFID")
    assert few.best is None and list(few.kinds) == ["a line in log E"]
    none = compare_fits(table[:2], "rFID")
    assert none.kinds == {} and none.sentence.startswith("No kind of fit of rFID can be tried on left-out cells. Not compared: ")
    assert PARABOLAS not in compare_fits([row | {"gmacs": row["E"]} for row in table], "rFID", "gmacs").sentence


@pytest.mark.parametrize("kind", [log_linear, power_law])
def test_the_figure_is_dashed_beyond_what_was_measured(kind: Any) -> None:
    table = rows(0.05)
    found = kind(table, "rFID")
    figure = against_floats(table, ("rFID",), {"rFID": found})
    figure.canvas.draw()
    solid, dashed = figure.axes[0].lines
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert np.asarray(solid.get_xdata())[[0, -1]] == pytest.approx([64, 8192])
    assert np.asarray(dashed.get_xdata())[[0, -1]] == pytest.approx([8192, 16384])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["p = 4", "p = 8", "fit", "95 % band of the fit", "extrapolated"]
    assert [text.get_text() for text in against_floats(table, ("rFID",), {}).legends[0].get_texts()] == ["p = 4", "p = 8"]
