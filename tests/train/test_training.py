"""The loop under DeepSpeed: exact resume, the schedule, the worker group, checkpoints that are whole or absent."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes import RESOURCES, tiny
from vitok.config import Recipe, Resources, override
from vitok.data.corpora import open_corpora
from vitok.data.stream import Source, prepare
from vitok.errors import VitokError
from vitok.metrics import weights
from vitok.models.tokenizer import Tokenizer
from vitok.study.tracking import Tracker
from vitok.train import launch
from vitok.train.loop import learning_rate

pytestmark = pytest.mark.usefixtures("cluster")


class Curve:
    """A sink that keeps what it is given, and can stop the run as a crash would."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.points: dict[int, dict[str, float]] = {}
        self.crash_at = crash_at

    def log(self, step: int, values: dict[str, float]) -> None:
        self.points[step] = values
        if step == self.crash_at:
            raise KeyboardInterrupt

    def flush(self) -> None:
        pass

    def losses(self) -> dict[int, float]:
        return {step: values["train/loss"] for step, values in self.points.items()}


@pytest.fixture(scope="module")
def source(photos: Path, cluster: str) -> Source:
    recipe = tiny()
    return prepare(open_corpora(str(photos)), recipe.data, recipe.tokenizer.size)


@pytest.fixture(scope="module")
def states() -> dict[str, weights.State]:
    return {"alexnet": weights.resolve("lpips-alexnet")[0]}


def job(source: Source, states: dict[str, weights.State], folder: Path, sink: Curve, recipe: Recipe, resources: Resources) -> launch.Job:
    folder.mkdir(exist_ok=True)
    return launch.Job(recipe, resources, source, states, str(folder), sink)


@pytest.mark.parametrize("zero", [0, 1])
def test_an_interrupted_run_continues_bit_by_bit(source: Source, states: dict[str, weights.State], tmp_path: Path, zero: int) -> None:
    resources = override(RESOURCES, {"zero": zero})
    whole, before, after = Curve(), Curve(crash_at=6), Curve()
    launch.run(job(source, states, tmp_path / "whole", whole, tiny(), resources))
    with pytest.raises(KeyboardInterrupt):
        launch.run(job(source, states, tmp_path / "cut", before, tiny(), resources))
    outcome = launch.run(job(source, states, tmp_path / "cut", after, tiny(), resources))
    assert outcome.steps == 4  # from the checkpoint of step 4
    assert {**before.losses(), **after.losses()} == whole.losses()
    ours, theirs = (load_file(tmp_path / name / "tokenizer.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_finished_run_trains_no_step_again(source: Source, states: dict[str, weights.State], tmp_path: Path) -> None:
    first = launch.run(job(source, states, tmp_path / "run", Curve(), tiny(), RESOURCES))
    second = launch.run(job(source, states, tmp_path / "run", Curve(), tiny(), RESOURCES))
    assert (first.steps, second.steps) == (8, 0)
    assert first.evaluation.metrics == second.evaluation.metrics


def test_what_is_exported_is_what_was_evaluated(source: Source, states: dict[str, weights.State], tmp_path: Path) -> None:
    outcome = launch.run(job(source, states, tmp_path / "run", Curve(), tiny(), RESOURCES))
    recipe = Recipe.model_validate_json((tmp_path / "run" / "recipe.json").read_text())
    model = Tokenizer(recipe.tokenizer)
    model.load_state_dict(load_file(tmp_path / "run" / "tokenizer.safetensors"))
    from vitok.metrics.evaluate import evaluate

    again = evaluate(lambda x: model(x, sample=False).pixels, source, 8, weights.lpips("alexnet"), torch.device("cpu"))
    assert again.metrics == pytest.approx(outcome.evaluation.metrics, rel=1e-5)
    assert len(again.per_image["rPSNR"]) == source.views == 2


def test_half_a_checkpoint_is_no_checkpoint(source: Source, states: dict[str, weights.State], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch.run(job(source, states, tmp_path / "run", Curve(crash_at=6), tiny(), RESOURCES))
    folder = tmp_path / "run" / "checkpoints"
    (folder / "step_00000006.partial").mkdir()
    assert launch.run(job(source, states, tmp_path / "run", Curve(), tiny(), RESOURCES)).steps == 4
    assert sorted(path.name for path in folder.iterdir()) == ["step_00000004", "step_00000008"]


def test_another_setting_cannot_continue_a_checkpoint(source: Source, states: dict[str, weights.State], tmp_path: Path) -> None:
    launch.run(job(source, states, tmp_path / "run", Curve(), tiny(), RESOURCES))
    with pytest.raises(VitokError, match=r"'zero': 0.*'zero': 1"):
        launch.run(job(source, states, tmp_path / "run", Curve(), tiny(), override(RESOURCES, {"zero": 1})))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_diverging_loss_ends_the_run_with_the_way_out(
    source: Source, states: dict[str, weights.State], tmp_path: Path, workers: int
) -> None:
    resources = override(RESOURCES, {"workers": workers})
    with pytest.raises(VitokError, match=r"the loss became (nan|inf).*optimizer\.lr"):
        launch.run(job(source, states, tmp_path / "run", Curve(), tiny(optimizer__lr=1e30), resources))


def test_a_trial_loads_neither_mlflow_nor_the_compiler(source: Source, states: dict[str, weights.State], tmp_path: Path) -> None:
    """Seconds of every first trial's start, in the process that a trial really has."""
    import ray

    from vitok.study.recorder import Recorder

    class Process:
        """An actor, which Ray never gives a used process."""

        def trial(self, recorder: list[Any]) -> list[str]:
            import sys

            from vitok.study.trial import trial

            trial({"cell": spec}, sources={"all": source}, states=states, recorder=recorder[0], resources=RESOURCES)
            return [name for name in ("torch", "mlflow", "torch._dynamo") if name in sys.modules]

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run_id = Tracker(uri, tmp_path, "start").child("", "cell", "cell", {}, {})
    spec = {"recipe": tiny().model_dump(mode="json"), "run_id": run_id, "folder": str(tmp_path / "cell"), "samples": "all"}
    recorder = ray.remote(num_cpus=0)(Recorder).remote(uri, str(tmp_path), "start")
    assert ray.get(ray.remote(Process).remote().trial.remote([recorder])) == ["torch"]


def test_training_learns(source: Source, states: dict[str, weights.State], tmp_path: Path) -> None:
    """With LPIPS and bf16, as at paper scale."""
    curve = Curve()
    recipe = tiny(steps=40, loss__lpips=0.1, precision="bf16")
    launch.run(job(source, states, tmp_path / "run", curve, recipe, override(RESOURCES, {"zero": 1})))
    assert curve.losses()[40] < 0.5 * curve.losses()[2]
    assert {"train/l2", "train/kl", "train/lpips", "train/grad_norm", "train/lr", "train/images_per_s"} <= set(curve.points[40])


@pytest.mark.parametrize("zero", [1, 3])
def test_two_workers_train_as_one(source: Source, states: dict[str, weights.State], tmp_path: Path, zero: int) -> None:
    """Same global batches, same noise. What is left is the rounding of sums in float32, amplified by eight AdamW steps."""
    alone = launch.run(job(source, states, tmp_path / "one", Curve(), tiny(), override(RESOURCES, {"zero": 1})))
    resources = override(RESOURCES, {"workers": 2, "zero": zero})
    outcome = launch.run(job(source, states, tmp_path / "two", Curve(), tiny(), resources))
    assert outcome.evaluation.metrics == pytest.approx(alone.evaluation.metrics, rel=2e-3)
    assert outcome.evaluation.per_image.keys() == alone.evaluation.per_image.keys()
    ours, theirs = (load_file(tmp_path / name / "tokenizer.safetensors") for name in ("one", "two"))
    difference = torch.cat([(ours[key] - theirs[key]).flatten() for key in ours]).norm()
    assert difference / torch.cat([ours[key].flatten() for key in ours]).norm() < 2e-3


def test_the_learning_rate_follows_section_2_3() -> None:
    optimizer = tiny(optimizer__lr=1e-4, optimizer__warmup=0.03).optimizer
    rates = [learning_rate(optimizer, 1024, step, 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(4e-4)  # 1e-4 for 256 samples
    assert rates[:30] == pytest.approx([4e-4 * (i + 1) / 30 for i in range(30)])
    assert rates[515] == pytest.approx(4e-4 * 0.5 * (1 + math.cos(math.pi * 485 / 970)))
    assert rates[-1] < 1e-8
