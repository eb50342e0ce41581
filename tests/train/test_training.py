"""The loop under DeepSpeed: it learns, it says what it does, and the cut over ranks, micro-batches and ZeRO changes nothing."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.recipes import RESOURCES, make_job, tiny
from tests.train.conftest import Curve, Run
from vitok.config import Recipe
from vitok.config.overrides import override
from vitok.data.loading.loader import Source
from vitok.errors import UsageError
from vitok.evaluation.evaluation import HeldOutEvaluation
from vitok.evaluation.statistics import Statistics
from vitok.metrics.registry import find_metrics
from vitok.models.tokenizer import Tokenizer
from vitok.networks.sources import Payload
from vitok.tracking.client import Tracker
from vitok.train import launch
from vitok.train.schedule import cosine_rate

pytestmark = pytest.mark.usefixtures("cluster")


def far(one: Path, other: Path) -> float:
    """Relative distance of two runs' weights."""
    ours, theirs = (load_file(folder / "tokenizer.safetensors") for folder in (one, other))
    difference = torch.cat([(ours[key] - theirs[key]).flatten() for key in ours]).norm()
    return float(difference / torch.cat([ours[key].flatten() for key in ours]).norm())


@pytest.fixture(scope="module")
def plain(source: Source, states: dict[str, Payload], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Curve]:
    """One worker without ZeRO: what everything else is held against."""
    folder, curve = tmp_path_factory.mktemp("plain"), Curve()
    launch.run(*make_job(tiny(), RESOURCES, source, states, folder, curve))
    return folder, curve


def test_what_is_exported_is_what_was_evaluated(run: Run, source: Source, states: dict[str, Payload], tmp_path: Path) -> None:
    outcome = run(tmp_path / "run")
    recipe = Recipe.model_validate_json((tmp_path / "run" / "recipe.json").read_text())
    model = Tokenizer(recipe.tokenizer)
    model.load_state_dict(load_file(tmp_path / "run" / "tokenizer.safetensors"))
    judge = HeldOutEvaluation(find_metrics(RESOURCES.metrics), states, source, Statistics(tmp_path / "statistics"), torch.device("cpu"))
    again = judge(lambda x: model(x, sample=False).pixels, 8)
    assert again.metrics == pytest.approx(outcome.evaluation.metrics, rel=1e-5)
    assert len(again.per_image["rPSNR"]) == source.views == 2


def test_training_learns_and_shows_what_it_does(run: Run, tmp_path: Path) -> None:
    """With LPIPS and bf16, as at paper scale."""
    curve = Curve()
    recipe = tiny(steps=24, loss__lpips=0.1, precision="bf16")
    run(tmp_path / "run", curve, recipe, override(RESOURCES, {"zero": 1, "evaluate_every": 12}))
    assert curve.losses()[24] < 0.6 * curve.losses()[2]
    last = curve.points[24]
    assert {"train/l2", "train/kl", "train/lpips", "train/grad_norm/tokenizer", "train/lr/tokenizer"} <= set(last)
    assert {"validation/rPSNR", "train/loss"} <= set(curve.points[12])
    split = sum(last[f"time/{phase}"] for phase in ("data", "compute", "logging", "checkpoint", "evaluation") if f"time/{phase}" in last)
    assert 0.9 * last["time/step"] < split <= last["time/step"] * (1 + 1e-9)  # sums in two orders
    assert last["train/images_per_s"] == pytest.approx(8 / last["time/step"])
    assert 0 < last["train/mfu"] < 1 and last["memory/peak_gb"] > 0.1
    kl = [last[f"latent_kl/{channel:03d}"] for channel in range(16)]
    assert sum(kl) / 16 == pytest.approx(last["train/kl"], rel=0.2)  # of the last step, not of the window
    assert 1 <= last["latent/active_channels"] <= 16 and 0 < last["latent/std"] < 5


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_two_ranks_train_as_one(run: Run, plain: tuple[Path, Curve], two_ranks: Callable[..., Any], tmp_path: Path, zero: int) -> None:
    """Same global batches, same noise. What is left is the rounding of sums in float32, amplified by eight AdamW steps."""
    first = run(plain[0])
    second, together = two_ranks(tmp_path / "two", tiny(), override(RESOURCES, {"zero": zero}))
    assert second.evaluation.metrics == pytest.approx(first.evaluation.metrics, rel=2e-3)
    assert second.evaluation.per_image.keys() == first.evaluation.per_image.keys()
    assert together.losses() == pytest.approx(plain[1].losses(), rel=1e-4)
    distance = far(plain[0], tmp_path / "two")
    print(f"two workers at ZeRO {zero}, beside one without: weights differ by {distance:.1e} of their norm")
    assert distance < 1e-6


def test_two_ranks_train_latent_and_nested_codes_as_one(run: Run, two_ranks: Callable[..., Any], tmp_path: Path) -> None:
    """ZeRO-3 gathers every learned token by the module that it is in."""
    recipe, alone = tiny(tokenizer__latent_tokens=12, tokenizer__shortest=2), Curve()
    first = run(tmp_path / "one", alone, recipe)
    second, together = two_ranks(tmp_path / "two", recipe, override(RESOURCES, {"zero": 3}))
    assert second.evaluation.metrics == pytest.approx(first.evaluation.metrics, rel=2e-3)
    assert {"rPSNR", "rPSNR:2", "rPSNR:4", "rPSNR:8"} <= set(first.evaluation.metrics)
    assert together.losses() == pytest.approx(alone.losses(), rel=1e-4)
    assert far(tmp_path / "one", tmp_path / "two") < 1e-5


@pytest.mark.parametrize(
    "changes",
    [{"zero": 1}, {"zero": 2}, {"zero": 3}, {"zero": 2, "offload": True}, {"zero": 3, "offload": True}, {"accumulation": 4},
     {"accumulation": 2, "zero": 2}, {"recompute": 0.5}, {"recompute": 1.0, "zero": 3}],
    ids=str,
)  # fmt: skip
def test_resources_do_not_change_the_curve(run: Run, plain: tuple[Path, Curve], tmp_path: Path, changes: dict[str, Any]) -> None:
    other = Curve()
    run(tmp_path / "other", other, resources=override(RESOURCES, changes))
    assert other.losses() == pytest.approx(plain[1].losses(), rel=1e-5)
    assert far(plain[0], tmp_path / "other") < 1e-4


def test_the_average_is_what_it_should_be(run: Run, tmp_path: Path) -> None:
    """EMA against its sum in float64 over the checkpoints of every step."""
    resources = override(RESOURCES, {"checkpoint_every": 1, "keep": 100, "zero": 2})
    run(tmp_path / "run", recipe=tiny(ema=0.7), resources=resources)
    from vitok.train.checkpoint.format import load

    model = Tokenizer(tiny().tokenizer)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    average = {name: value.double() for name, value in Tokenizer(tiny().tokenizer).state_dict().items()}
    for step in range(1, 9):
        now = load(tmp_path / "run" / "checkpoints" / f"step_{step:08d}").whole("tokenizer", "weight", shapes)
        average = {name: 0.7 * average[name] + 0.3 * now[name].double() for name in now}
    kept = load_file(tmp_path / "run" / "tokenizer.safetensors")
    assert all(torch.allclose(kept[name].double(), average[name], rtol=0, atol=1e-6) for name in average)


def test_blocks_compile_once_whatever_the_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo
    from torch._dynamo.utils import counters

    from vitok.config.variants import SIZES
    from vitok.models.blocks import Transformer, configure_blocks

    compiled = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled(self, backend="aot_eager"))  # half a minute less than C++
    torch._dynamo.reset()
    counters.clear()
    tower = SIZES["M"]
    model, x = Transformer(tower), torch.randn(2, 16, tower.width, requires_grad=True)  # as it comes from an embedding
    plain = model(x, (1, 4, 4))
    configure_blocks(model, recompute=0.0, compiled=True)
    assert torch.allclose(model(x, (1, 4, 4)), plain, atol=1e-5)
    assert len(model.blocks) == 3 and counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"workers": 3}, r"batch_size 8 is not divisible by 3 workers"),
     ({"accumulation": 3}, r"not divisible by 1 workers x 3 micro-batches"),
     ({"offload": True}, r"offload needs resources\.zero"), ({"gpus_per_worker": 1}, "no usable GPU")],
)  # fmt: skip
def test_what_cannot_run_is_refused(run: Run, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        run(tmp_path / "run", resources=override(RESOURCES, changes))


def test_a_trial_loads_neither_mlflow_nor_the_compiler(source: Source, states: dict[str, Payload], tmp_path: Path) -> None:
    """Seconds of every first trial's start, in the process that a trial really has."""
    import ray

    from vitok.tracking.recorder import Recorder

    class Process:
        """An actor, which Ray never gives a used process."""

        def trial(self, recorder: list[Any]) -> list[str]:
            import sys

            from vitok.orchestration.trial import run_trial

            run_trial({"cell": "a"}, runs={"a": job.spec}, inputs=job.inputs, recorder=recorder[0])
            return [name for name in ("torch", "mlflow", "torch._dynamo", "torch_fidelity") if name in sys.modules]

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run_id = Tracker(uri, tmp_path, "start").child(None, "cell", "cell", {}, {})
    job = make_job(tiny(), RESOURCES, source, states, tmp_path / "cell", None)
    job = job._replace(spec=replace(job.spec, run_id=run_id))
    recorder = ray.remote(num_cpus=0)(Recorder).remote(uri, str(tmp_path), "start")
    assert ray.get(ray.remote(Process).remote().trial.remote([recorder])) == ["torch"]


def test_the_learning_rate_follows_section_2_3() -> None:
    optimizer = tiny(optimizer__lr=1e-4, optimizer__warmup=0.03).optimizer
    rates = [cosine_rate(optimizer, 1024, step, 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(4e-4)  # 1e-4 for 256 samples
    assert rates[:30] == pytest.approx([4e-4 * (i + 1) / 30 for i in range(30)])
    assert rates[515] == pytest.approx(4e-4 * 0.5 * (1 + math.cos(math.pi * 485 / 970)))
    assert rates[-1] < 1e-8
