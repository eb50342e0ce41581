"""`vitok train tokenizer` as a user runs it: killed, continued, tuned in a second stage, refused."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from rich.console import Console

from tests.conftest import kill
from tests.recipes import RESOURCES, tiny
from vitok import cli
from vitok.config.overrides import override
from vitok.console.panel import frame, sentence
from vitok.data.corpora.corpus import open_corpora
from vitok.errors import UsageError, VitokError
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.session import results_apart
from vitok.orchestration.sweep import concurrency, require_samples

SMALL = {
    "batch_size": "4", "data.pool": "64", "data.validation_crops": "4", "resources.checkpoint_every": "10", "resources.log_every": "5",
    "resources.evaluate_every": "20", "loss.lpips": "0", "resources.metrics": "rPSNR,LPIPS",
}  # fmt: skip


def command(storage: Path, corpus: Path, *more: str) -> list[str]:
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    code = "from vitok.cli import main; main()"
    return [sys.executable, "-c", code, "train", "tokenizer", "--storage", str(storage), "--corpus", str(corpus), "--json", *changes, *more]


def call(arguments: list[str], address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, env=os.environ | {"RAY_ADDRESS": address}, timeout=200)


@pytest.fixture(scope="module")
def trained(cluster: str, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """Killed (SIGKILL) after its first checkpoint, and run again: the storage, the result, what was shown."""
    storage = tmp_path_factory.mktemp("storage")
    arguments = command(storage, photos, "--steps", "200")
    process = subprocess.Popen(
        arguments, env=os.environ | {"RAY_ADDRESS": cluster}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    ends = time.monotonic() + 120
    while time.monotonic() < ends and not list(storage.glob("train/*/checkpoints/step_*[0-9]")):
        time.sleep(0.02)
    kill(process)
    result = call(arguments, cluster)
    assert result.returncode == 0, result.stderr
    return storage, json.loads(result.stdout), result.stderr


def client(storage: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")


def test_the_same_command_goes_on(trained: tuple[Path, dict, str], cluster: str, photos: Path) -> None:
    storage, result, shown = trained
    run = client(storage).get_run(result["run"])
    assert run.info.status == "FINISHED" and run.data.metrics["final/steps_this_attempt"] < 200
    steps = [point.step for point in client(storage).get_metric_history(result["run"], "train/loss")]
    assert steps == list(range(5, 201, 5)), "one run, no point of a curve missing or twice"
    assert [point.step for point in client(storage).get_metric_history(result["run"], "validation/rPSNR")] == list(range(20, 200, 20))
    assert "step 200/200: loss" in shown and "waiting for data" in shown
    assert {"train/mfu", "latent/active_channels", "time/data", "memory/peak_gb"} <= set(run.data.metrics)


def test_a_finished_run_is_not_run_again(
    trained: tuple[Path, dict, str], photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, result, _ = trained
    monkeypatch.setattr("vitok.orchestration.session.connect", lambda storage: Capacity({"CPU": 2.0}))  # this process is connected already
    monkeypatch.setattr(sys, "argv", ["vitok", *command(storage, photos, "--steps", "200")[3:]])
    cli.main()
    shown = capsys.readouterr()
    assert "finished already" in shown.err and json.loads(shown.out) == result


def test_weights_that_have_changed_are_named_wherever_they_are_read(
    trained: tuple[Path, dict, str], photos: Path, tmp_path: Path, call_vitok: Callable[..., tuple[int, str, str]]
) -> None:
    """By one bit, in a run's folder: until then `sha256sum --check` finds all right."""
    shutil.copytree(trained[1]["folder"], tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=tmp_path / "run", capture_output=True, text=True)
    assert checked.stdout == "tokenizer.safetensors: OK\nrecipe.json: OK\n"
    weights = tmp_path / "run" / "tokenizer.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    own = ("--storage", str(tmp_path / "storage"), "--corpus", str(photos))
    for command in (
        ("eval", str(tmp_path / "run"), *own), ("eval", str(weights), *own), ("train", "dit", "--tokenizer", str(tmp_path / "run"), *own),
        ("train", "tokenizer", "--init", str(tmp_path / "run"), *own), ("latents", "build", "--tokenizer", str(tmp_path / "run"), *own),
    ):  # fmt: skip
        code, _, shown = call_vitok(*command)
        assert code == 2 and f"error: {weights} is damaged: its SHA-256 is not the one that its run kept in SHA256SUMS" in shown, shown


@pytest.mark.long
def test_stage_2_starts_from_a_run_of_mlflow(trained: tuple[Path, dict, str], cluster: str, photos: Path) -> None:
    """And needs nothing of it once it has begun."""
    storage, first, _ = trained
    arguments = command(storage, photos, "--stage", "2", "--init", first["run"], "--steps", "10", "--set", "gan.base_channels=32")
    result = call(arguments, cluster)
    assert result.returncode == 0, result.stderr
    second = json.loads(result.stdout)
    run = client(storage).get_run(second["run"])
    assert run.data.params["gan.weight"] == "0.02" and "train/gan/accuracy_fake" in run.data.metrics
    assert (Path(second["folder"]) / "start.safetensors").read_bytes() == Path(first["weights"]).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(("--stage", "2"), 2, "name it with --init"),
     (("--init", "nowhere"), 2, "there is no nowhere/tokenizer.safetensors"),
     (("--init", "0" * 32), 2, "has no such run"),
     (("--set", "stepz=3"), 2, "did you mean steps"),
     (("--set", "resources.workers=3"), 2, "batch_size 16 is not divisible by 3 workers"),
     (("--set", "tokenizer.patch=5"), 2, "size 32 is not divisible by the patch 5"),
     (("--variant", "X-B/16"), 2, "unknown variant 'X-B/16'"),
     (("--channels", "0"), 2, "channels"),
     (("--set", "resources.gpus_per_worker=1"), 1, "one run needs 1 GPU, this machine offers 0"),
     (("--set", "resources.metrics=rSSIM", "--set", "resources.evaluate_every=5"), 2, "must hold rPSNR, by which the best"),
     (("--name", "../up"), 2, "--name '../up'"),
     (("--corpus", "nowhere"), 2, "nowhere")],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.setattr("vitok.orchestration.session.connect", lambda storage: Capacity({"CPU": 2.0}))  # this process is connected already
    monkeypatch.setattr(sys, "argv", ["vitok", "train", "tokenizer", "--storage", str(tmp_path), *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == code and error.startswith("error: ") and words in error


def test_another_tokenizer_than_the_first_stages_is_refused(
    trained: tuple[Path, dict, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, first, _ = trained
    arguments = ["--storage", str(storage), "--stage", "2", "--init", first["folder"], "--channels", "8", "--set", "tokenizer.patch=4"]
    monkeypatch.setattr(sys, "argv", ["vitok", "train", "tokenizer", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert "patch 8 there, 4 here; channels 16 there, 8 here" in capsys.readouterr().err


def test_what_the_cluster_cannot_carry_is_refused(photos: Path) -> None:
    offered = Capacity({"CPU": 6.0, "trial_slot": 2.0})
    pooled, fresh = tiny(), tiny(data__pool=0)
    with pytest.raises(VitokError, match="one run needs 1 GPU, the cluster offers 0"):
        concurrency(override(RESOURCES, {"gpus_per_worker": 1}), pooled, offered)
    two = override(RESOURCES, {"workers": 2, "cpus_per_worker": 3})
    assert concurrency(two, pooled, offered) == 1
    with pytest.raises(VitokError, match=r"one run needs 7 CPU, the cluster offers 6 .*one to decode with"):
        concurrency(two, fresh, offered)
    assert concurrency(override(RESOURCES, {"data_cpus": 64}), fresh, offered) == 1, "fewer than wished for, enough for one"
    assert concurrency(override(RESOURCES, {"data_cpus": 1}), fresh, offered) == 3
    with pytest.raises(UsageError, match="has 11 samples to train on, fewer than the 13 workers"):
        require_samples(open_corpora(str(photos)), override(RESOURCES, {"workers": 13}))


def test_the_panel_shows_all_that_is_watched(trained: tuple[Path, dict, str]) -> None:
    storage, result, _ = trained
    console = Console(width=140, record=True, file=io.StringIO())
    values = client(storage).get_run(result["run"]).data.metrics
    console.print(frame(values))
    shown = console.export_text()
    for words in (
        "loss",
        "grad_norm/tokenizer",
        "lr/tokenizer",
        "images/s",
        "MFU",
        "data",
        "compute",
        "memory",
        "active_channels",
        "skipped_steps",
    ):
        assert words in shown
    assert sentence(values).startswith("loss 0.") and "rPSNR" in sentence(values)


def test_what_ray_prints_is_not_among_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints to stdout when a node dies."""
    with results_apart():
        print("a node died")
    print("{}")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("{}\n", "a node died\n")
