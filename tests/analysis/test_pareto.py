import numpy as np
import pytest

from vitok.analysis.pareto import advice, pareto_front, settings_by_cost
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.report.figures.pareto import pareto_fronts

PAIRS = (("gmacs", "rPSNR"), ("gmacs", "rFID"), ("rPSNR", "rFID"), ("rFID", "rPSNR"))
LAPTOP = (  # of the README: p, c, E, GMACs, rPSNR
    (8, 4, 64, 0.009794, 21.65), (8, 8, 128, 0.009812, 23.41), (4, 4, 256, 0.04035, 25.04), (8, 16, 256, 0.009849, 25.75),
    (4, 8, 512, 0.04043, 27.72), (8, 32, 512, 0.009923, 28.08), (4, 16, 1024, 0.04057, 31.37), (4, 32, 2048, 0.04087, 35.05),
)  # fmt: skip


def laptop() -> list[Row]:
    return [{"label": f"T-M/{p} c={c} seed=0", "p": p, "c": c, "E": e, "gmacs": g, "rPSNR": v} for p, c, e, g, v in LAPTOP]


def scattered(start: int, count: int = 60) -> list[Row]:
    """Rounded, so that some are equal in one or both."""
    values = np.random.default_rng(start).integers(1, 20, (count, 3))
    return [{"label": f"{i}", "p": 8, "gmacs": float(g), "rPSNR": float(v), "rFID": float(d)} for i, (g, v, d) in enumerate(values)]


@pytest.mark.parametrize(("cost", "metric"), PAIRS)
@pytest.mark.parametrize("start", range(5))
def test_the_front_is_what_no_other_is_as_good_as_and_better(cost: str, metric: str, start: int) -> None:
    table = scattered(start)
    sign = {"gmacs": -1, "rFID": -1, "rPSNR": 1}
    points = [(sign[cost] * row[cost], sign[metric] * row[metric]) for row in table]
    kept = {row["label"] for row, a in zip(table, points, strict=True) if not any(b[0] >= a[0] and b[1] >= a[1] and b != a for b in points)}
    found = pareto_front(settings_by_cost(table, cost, metric), metric)
    assert {one.label for one in found} == kept and len(found) == len(kept)
    assert [one.cost for one in found] == sorted((one.cost for one in found), reverse=sign[cost] > 0)
    dominated = {one.label for one in settings_by_cost(table, cost, metric) if any(other.dominates(one, cost, metric) for other in found)}
    assert dominated == {row["label"] for row in table} - kept


def test_a_setting_is_the_mean_of_its_seeds() -> None:
    table = [
        {"label": f"{name} seed={seed}", "setting": name, "p": 4, "gmacs": 1.0 + seed, "rPSNR": value}
        for name, values in (("A c=4", (20.0, 30.0)), ("B c=4", (26.0, 27.0))) for seed, value in enumerate(values)
    ]  # fmt: skip
    table += [{"label": "C seed=0", "setting": "C", "gmacs": 1.0}, {"label": "D", "gmacs": 9.0, "rPSNR": float("nan")}]
    only = pareto_front(settings_by_cost(table, "gmacs", "rPSNR"), "rPSNR")  # not A, whose luckiest seed is the best cell
    assert [(one.label, one.cost, one.value, one.seeds) for one in only] == [("B c=4", 1.5, 26.5, 2)]
    unnamed = [{k: v for k, v in row.items() if k != "setting"} for row in table]
    assert pareto_front(settings_by_cost(unnamed, "gmacs", "rPSNR"), "rPSNR") == only


def test_advice_names_what_to_take_and_what_not() -> None:
    assert advice(laptop(), "gmacs", "rPSNR") == [
        "With less than 0.0409 GMACs take T-M/8 c=32: 28.08 dB (0.00992 GMACs).",
        "From 0.0409 GMACs on take T-M/4 c=32: 35.05 dB.",
        "T-M/4 c=4 (25.04 dB, 0.0403 GMACs) is not worth it: T-M/8 c=32 has 28.08 dB at 0.00992 GMACs.",
        "T-M/4 c=8 (27.72 dB, 0.0404 GMACs) is not worth it: T-M/8 c=32 has 28.08 dB at 0.00992 GMACs.",
    ]
    said = advice(laptop(), "E", "rPSNR")
    assert said[0] == "With less than 128 floats take T-M/8 c=4: 21.65 dB (64 floats)." and said[5].startswith("From 2048 floats on take")


def test_advice_between_two_metrics() -> None:
    table: list[Row] = [{"label": name, "rFID": d, "rPSNR": v} for name, d, v in (("A", 1.0, 30.0), ("B", 2.0, 33.0), ("C", 2.5, 31.0))]
    assert advice(table, "rFID", "rPSNR") == [
        "If rFID must be below 2, take A: 30.00 dB (rFID 1).",
        "If rFID 2 will do, take B: 33.00 dB.",
        "C (31.00 dB, rFID 2.5) is not worth it: B has 33.00 dB at rFID 2.",
    ]
    assert advice(table, "rPSNR", "rFID")[0] == "If rPSNR must be above 30.00 dB, take B: rFID 2 (33.00 dB)."
    assert advice(table[1:], "rFID", "rPSNR")[0] == "For both take B: 33.00 dB (rFID 2)."


def test_the_beaten_are_a_few() -> None:
    table: list[Row] = [{"label": f"{i}", "gmacs": 1.0 + i, "rPSNR": 30.0 - i} for i in range(6)]
    said = advice(table, "gmacs", "rPSNR")
    assert said[0] == "For any budget take 0: 30.00 dB (1 GMACs)." and len(said) == 5
    assert said[1].startswith("5 (25.00 dB, 6 GMACs) is not worth it: 0 has") and said[-1] == "2 more are beaten likewise."
    assert advice(table[:5], "gmacs", "rPSNR")[-1] == "1 more is beaten likewise."
    assert "likewise" not in advice(table[:4], "gmacs", "rPSNR")[-1]


def test_hours_of_devices_are_a_cost() -> None:
    table: list[Row] = [{"label": name, "device_hours": hours, "rFID": fid} for name, hours, fid in (("A", 4.0, 3.0), ("B", 6.0, 2.0))]
    assert [(one.label, one.cost) for one in settings_by_cost(table, "device_hours", "rFID")] == [("A", 4.0), ("B", 6.0)]
    assert advice(table, "device_hours", "rFID")[0] == "With less than 6 device-hours take A: rFID 3 (4 device-hours)."


def test_nothing_to_choose_from_is_said() -> None:
    for call in (settings_by_cost, advice):
        with pytest.raises(VitokError, match=r"^no cell has both gmacs and rFID: there is nothing to choose from$"):
            call(laptop(), "gmacs", "rFID")
    with pytest.raises(VitokError, match="no cell has both"):
        pareto_fronts(laptop(), (("gmacs", "rPSNR"), ("gmacs", "rFID")))


def test_the_figure_names_the_front() -> None:
    table = [*laptop(), {"label": "SD-VAE", "gmacs": 9.0, "E": 4096, "rPSNR": 30.0}]
    figure = pareto_fronts(table, (("gmacs", "rPSNR"), ("E", "rPSNR")))
    for axis, pair in zip(figure.axes, (("gmacs", "rPSNR"), ("E", "rPSNR")), strict=False):
        best = pareto_front(settings_by_cost(table, *pair), pair[1])
        assert [text.get_text() for text in axis.texts] == [one.label for one in best]
        ends = np.array([axis.texts[i].get_window_extent().bounds for i in range(len(best))])
        low, high = ends[:, 1], ends[:, 1] + ends[:, 3]
        left, right = ends[:, 0], ends[:, 0] + ends[:, 2]
        for i in range(len(best)):
            for j in range(i):
                apart = min(right[i], right[j]) - max(left[i], left[j]), min(high[i], high[j]) - max(low[i], low[j])
                assert min(apart) < 0.25 * (high[i] - low[i]), (best[i].label, best[j].label)
        steps = axis.lines[0]
        assert steps.get_drawstyle() == "steps-post"
        assert np.asarray(steps.get_xdata())[:-1] == pytest.approx([one.cost for one in best])
    assert figure.axes[0].get_xscale() == "log" and figure.axes[0].get_yscale() == "linear"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["p = 4", "p = 8", "others", "beaten by another", "front: the best for a budget"]
