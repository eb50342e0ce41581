import pytest

from vitok.costs import flops as accounting
from vitok.errors import UsageError
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.plan import duration, plan_cells
from vitok.orchestration.request import Choice, choose
from vitok.study import grid, presets

LAPTOP = presets.laptop({"tokenizer.patch": (4, 8), "tokenizer.channels": (4, 16)})
SCALES = {"laptop": LAPTOP, "single-gpu": presets.single_gpu({}), "paper": presets.paper({})}


def test_cells_are_all_combinations_with_their_own_identity() -> None:
    cells = grid.cells(LAPTOP, (0, 1), "corpus")
    assert len({cell.digest for cell in cells}) == 8
    assert {cell.digest for cell in cells} != {cell.digest for cell in grid.cells(LAPTOP, (0, 1), "another")}
    flops = [accounting.training_flops(cell.recipe) for cell in cells]
    assert flops == sorted(flops)


def test_labels_tell_cells_apart() -> None:
    one, two = grid.cells(presets.laptop({"loss.lpips": (0.1, 0.5)}), (0,), "corpus")
    assert [one.label, two.label] == ["T-M/8 c=16 seed=0 lpips=0.1", "T-M/8 c=16 seed=0 lpips=0.5"]
    sizes = presets.laptop_generation({"tokenizer.tokenizer.size": (32, 64)})
    assert [cell.label for cell in grid.cells(sizes, (0,), "corpus")] == [f"DiT-T on T-M/8 c=16 seed=0 size={size}" for size in (32, 64)]
    assert grid.cells(presets.laptop({}), (0, 1), "corpus")[1].label == "T-M/8 c=16 seed=1"


def test_changes_reach_recipe_resources_and_grid() -> None:
    scale = grid.apply_overrides(LAPTOP, {"steps": "7", "resources.zero": "1", "grid.tokenizer.channels": "2,3"})
    assert (scale.base.steps, scale.resources.zero) == (7, 1)
    assert {cell.recipe.tokenizer.channels for cell in grid.cells(scale, (0,), "corpus")} == {2, 3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stepz": "7"}, ["'stepz'", "steps"]),
        ({"resources.zer": "1"}, ["'zer'", "zero"]),
        ({"tokenizer.patch": "8"}, ["axis of the grid", "grid.tokenizer.patch"]),
        ({"grid.tokenizer.patch": "5,8"}, ["2 impossible cell(s)", "patch 5"]),
        ({"grid.tokenizer.chanels": "5"}, ["chanels", "tokenizer.channels"]),
        ({"resources.workers": "3"}, ["16", "3 workers"]),
        ({"grid.tokenizer.channels": "0"}, ["channels", "'0'"]),
    ],
)
def test_a_bad_change_names_what_is_wrong(changes: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        grid.cells(grid.apply_overrides(LAPTOP, changes), (0,), "corpus")
    assert [word for word in words if word not in str(error.value)] == []


def test_the_papers_grid_spans_2_to_the_8_to_2_to_the_16() -> None:
    from studies.e_sweep import study

    floats = [cell.recipe.tokenizer.floats for cell in grid.cells(study.scales["paper"], (0,), "corpus")]
    assert (len(floats), min(floats), max(floats)) == (15, 2**8, 2**16)


def test_a_plan_adds_up() -> None:
    cells = grid.cells(LAPTOP, (0,), "corpus")
    planned = plan_cells(cells, LAPTOP, Choice("laptop", "asked for"), "sample-photos")
    assert planned.hours == pytest.approx(sum(accounting.run_hours(cell.recipe, LAPTOP.resources) for cell in cells))
    assert {"p", "c", "L", "E", "params_m", "gmacs", "training_flops", "hours", "worker_gb"} <= set(planned.rows[0])
    assert planned.warnings == [] and planned.rows[0]["worker_gb"] < 0.1
    paper = presets.paper({"tokenizer.channels": (4, 8, 16, 32, 64)})
    everything = grid.cells(paper, (0,), "corpus")
    clock = [
        plan_cells(everything, paper, Choice("", ""), "", offered).at_once
        for offered in (None, Capacity({"GPU": 32.0, "CPU": 720.0, "trial_slot": 16.0}))
    ]
    assert clock == [None, 4], "only a cluster says how many of its trials run at once"
    assert [duration(h) for h in (10 / 3600, 0.2, 3.0)] == ["10 s", "12 min", "3.0 h"]


@pytest.mark.parametrize(
    ("offered", "scale"),
    [({"CPU": 64.0}, "laptop"), ({"GPU": 1.0}, "single-gpu"), ({"GPU": 7.0}, "single-gpu"), ({"GPU": 8.0}, "paper")],
)
def test_the_scale_fits_the_cluster(offered: dict[str, float], scale: str) -> None:
    choice = choose(SCALES, None, Capacity(offered))
    assert choice.scale == scale
    assert "cluster" in choice.reason


def test_the_scale_fits_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, scale in ((0, "laptop"), (8, "single-gpu")):
        monkeypatch.setattr("vitok.orchestration.request.local_gpus", lambda count=count: count)
        assert choose(SCALES, None, None).scale == scale
    assert choose(SCALES, "paper", None).scale == "paper"
    with pytest.raises(UsageError, match="'big'"):
        choose(SCALES, "big", None)
