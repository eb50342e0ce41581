"""Checkpoints: exact, whole or absent, checked, independent of the cut, and never the end of a run."""

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes import RESOURCES, make_job, tiny
from tests.train.conftest import Curve, Run
from tests.train.test_training import far
from vitok.config.overrides import override
from vitok.errors import VitokError
from vitok.train import launch
from vitok.train.checkpoint import format as checkpoint_format
from vitok.train.checkpoint.format import load

pytestmark = pytest.mark.usefixtures("cluster")


def same(one: Path, other: Path) -> bool:
    ours, theirs = (load_file(folder / "tokenizer.safetensors") for folder in (one, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("changes", [{"zero": 0}, {"zero": 1}, {"zero": 2, "accumulation": 2}, {"zero": 3}, {"log_every": 3}], ids=str)
def test_an_interrupted_run_continues_bit_by_bit(run: Run, tmp_path: Path, changes: dict[str, Any]) -> None:
    """With averaged weights, and with a checkpoint between two points of the curve."""
    resources, recipe = override(RESOURCES, changes), tiny(ema=0.9)
    whole, before, after = Curve(), Curve(crash_at=6), Curve()
    run(tmp_path / "whole", whole, recipe, resources)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", before, recipe, resources)
    outcome = run(tmp_path / "cut", after, recipe, resources)
    assert outcome.steps == 4  # from the checkpoint of step 4
    assert {**before.losses(), **after.losses()} == whole.losses()
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_trains_no_step_again(run: Run, tmp_path: Path) -> None:
    first, second = run(tmp_path / "run"), run(tmp_path / "run")
    assert (first.steps, second.steps) == (8, 0)
    assert first.evaluation.metrics == second.evaluation.metrics


@pytest.fixture
def begun(run: Run, tmp_path: Path) -> Path:
    """A finished run and its checkpoints of steps 2, 4, 6 and 8."""
    run(tmp_path / "run", resources=override(RESOURCES, {"checkpoint_every": 2, "keep": 9}))
    return tmp_path / "run"


def spoil_bytes(path: Path) -> None:
    file = path / "rank_00000.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


SPOILT: dict[str, Callable[[Path], None]] = {
    "rank_00000.safetensors does not have its checksum": spoil_bytes,
    "rank_00000.safetensors is missing": lambda path: (path / "rank_00000.safetensors").unlink(),
    "state.json": lambda path: (path / "state.json").unlink(),
    "rank_00000.safetensors has 1000 bytes instead of": lambda path: (path / "rank_00000.safetensors").write_bytes(bytes(1000)),
}


@pytest.mark.parametrize("problem", SPOILT)
def test_a_damaged_checkpoint_is_put_aside_loudly_and_the_one_before_taken(run: Run, begun: Path, problem: str) -> None:
    before = (begun / "tokenizer.safetensors").read_bytes()
    SPOILT[problem](begun / "checkpoints" / "step_00000008")
    curve = Curve()
    assert run(begun, curve).steps == 2
    assert f"checkpoint of step 8 is damaged ({problem}" in curve.told() and "put aside as step_00000008-" in curve.told()
    assert (begun / "tokenizer.safetensors").read_bytes() == before
    assert [path for path in (begun / "checkpoints").iterdir() if path.suffix == ".damaged"]


def test_no_run_begins_again_because_all_its_checkpoints_are_damaged(run: Run, begun: Path) -> None:
    for path in (begun / "checkpoints").iterdir():
        spoil_bytes(path)
    with pytest.raises(VitokError, match=r"all checkpoints in .* are damaged"):
        run(begun)


def test_half_a_checkpoint_is_no_checkpoint(run: Run, begun: Path) -> None:
    shutil.rmtree(begun / "checkpoints" / "step_00000008")
    (begun / "checkpoints" / "step_00000008-0000.partial").mkdir()
    assert run(begun).steps == 2
    assert not list((begun / "checkpoints").glob("*.partial"))


def test_a_checkpoint_of_another_recipe_names_every_difference(run: Run, begun: Path) -> None:
    with pytest.raises(VitokError, match=r"steps: 8 there, 9 here; loss\.kl: 0\.001 there, 0\.002 here"):
        run(begun, recipe=tiny(steps=9, loss__kl=0.002))


def test_what_is_kept(run: Run, tmp_path: Path) -> None:
    """The newest two, the best by the evaluations, and every fifth step's."""
    resources = override(RESOURCES, {"checkpoint_every": 1, "evaluate_every": 3, "keep": 2, "keep_every": 5, "log_every": 1})
    curve = Curve()
    run(tmp_path / "run", curve, tiny(steps=12), resources)
    scores = {step: values["validation/rPSNR"] for step, values in curve.points.items() if "validation/rPSNR" in values}
    assert list(scores) == [3, 6, 9]
    best = max(scores, key=lambda step: scores[step])
    kept = {int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {best, 5, 10, 11, 12}
    assert load(tmp_path / "run" / "checkpoints" / "step_00000012").state["best"] == [best, scores[best]]


def test_a_checkpoint_is_taken_when_the_last_is_old(run: Run, tmp_path: Path) -> None:
    resources = override(RESOURCES, {"checkpoint_every": 1000, "checkpoint_minutes": 1e-9, "keep": 100})
    run(tmp_path / "run", resources=resources)
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 8


def test_a_full_disk_ends_no_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, left = checkpoint_format.os.fsync, [1]

    def fsync(file: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        written(file)

    monkeypatch.setattr(checkpoint_format.os, "fsync", fsync)
    curve = Curve()
    assert run(tmp_path / "run", curve).steps == 8
    assert (
        "checkpoint of step 8 could not be written: [Errno 28] No space left on device. Training goes on; the last good one is of step 4"
        in (curve.told())
    )
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_00000004"]


def test_what_else_ends_the_writer_ends_the_run(run: Run, tmp_path: Path) -> None:
    """Not only the thread, without a word."""

    class Lost(Curve):
        def flush(self) -> None:
            raise KeyError("the recorder has lost the run")

    with pytest.raises(KeyError, match="lost the run"):
        run(tmp_path / "run", Lost())


@pytest.fixture(scope="module")
def plain(source: Any, states: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    launch.run(*make_job(tiny(ema=0.9), RESOURCES, source, states, folder, Curve()))
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    ("there", "here"), [((1, 0), (2, 3)), ((1, 3), (2, 1)), ((2, 1), (1, 0)), ((2, 3), (1, 2)), ((2, 2), (2, 0)), ((2, 0), (2, 0))], ids=str
)
def test_any_number_of_workers_continues_a_checkpoint(
    run: Run, plain: Path, two_ranks: Callable[..., Any], tmp_path: Path, there: tuple[int, int], here: tuple[int, int]
) -> None:
    """Steps 1 to 4 in one cut, 5 to 8 in another; the same weights come out, up to the rounding of sums, amplified by AdamW."""

    def go(folder: str, cut: tuple[int, int]) -> tuple[int, Curve]:
        resources, curve = override(RESOURCES, {"zero": cut[1]}), Curve()
        if cut[0] == 1:
            return run(tmp_path / folder, curve, tiny(ema=0.9), resources).steps, curve
        outcome, curve = two_ranks(tmp_path / folder, tiny(ema=0.9), resources)
        return outcome.steps, curve

    go("cut", there)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step_00000008")
    steps, curve = go("cut", here)
    assert steps == 4
    told = f"step 4 was saved by {there[0]} worker(s) at ZeRO {there[1]}, goes on with {here[0]} at {here[1]}"
    assert (told in curve.told()) == (there != here)
    distance = far(plain, tmp_path / "cut")
    print(f"{there[0]} at ZeRO {there[1]}, then {here[0]} at {here[1]}: weights differ by {distance:.1e} of their norm")
    assert distance < 1e-6


@pytest.mark.parametrize("zero", [0, pytest.param(2, marks=pytest.mark.long)])
def test_two_ranks_continue_bit_by_bit(two_ranks: Callable[..., Any], tmp_path: Path, zero: int) -> None:
    """Without ZeRO too, where each rank keeps its share in the checkpoint and needs the moments of all."""
    resources, recipe = override(RESOURCES, {"zero": zero}), tiny(ema=0.9)
    _, whole = two_ranks(tmp_path / "whole", recipe, resources)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "step_00000008")
    (tmp_path / "cut" / "tokenizer.safetensors").unlink()
    outcome, rest = two_ranks(tmp_path / "cut", recipe, resources)
    assert outcome.steps == 4
    assert rest.losses() == {step: loss for step, loss in whole.losses().items() if step > 4}
    assert same(tmp_path / "whole", tmp_path / "cut")


def test_any_slice_is_read_from_any_cut(tmp_path: Path) -> None:
    """Bit for bit, whatever pieces the elements were written in."""
    content = torch.randn(100)
    cuts = {"rank_00000.safetensors": [(0, 33), (50, 51)], "rank_00001.safetensors": [(33, 50), (51, 100)]}
    files = {}
    for name, pieces in cuts.items():
        sha256 = checkpoint_format.write(tmp_path / name, {f"tokenizer/weight/w@{a}": content[a:b].clone() for a, b in pieces})
        assert sha256 == checkpoint_format.digest(tmp_path / name)
        files[name] = {"sha256": sha256, "bytes": (tmp_path / name).stat().st_size}
    (tmp_path / "state.json").write_text(json.dumps({"files": files}))
    found = load(tmp_path)
    assert checkpoint_format.damage(found, files) is None
    for start, end in ((0, 100), (0, 1), (30, 60), (50, 51), (99, 100)):
        assert torch.equal(found.read("tokenizer", "weight", "w", start, end - start), content[start:end])
