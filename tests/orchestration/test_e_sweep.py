"""The study as a user runs it: in processes of its own, on a real cluster, killed for real."""

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import STUDY, kill
from vitok.tracking.tags import CELL

SMALL = {
    "steps": "40", "batch_size": "4", "data.pool": "64", "data.validation_crops": "8", "grid.tokenizer.channels": "4,16",
    "resources.checkpoint_every": "10", "resources.log_every": "5", "resources.data_cpus": "2",  # two trials at once
}  # fmt: skip


def command(name: str, storage: Path, corpus: Path, *more: str) -> list[str]:
    changes = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, str(STUDY), name, "--storage", str(storage), "--corpus", str(corpus), *changes, *more]


def call(arguments: list[str], address: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | ({"RAY_ADDRESS": address} if address else {}) | environment
    return subprocess.run(arguments, capture_output=True, text=True, env=env, timeout=280)


@pytest.fixture(scope="module")
def killed(cluster: str, broken: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A storage whose first run was killed (SIGKILL) after some cell's checkpoint, and the MLflow runs that it had begun."""
    storage = tmp_path_factory.mktemp("storage")
    process = subprocess.Popen(
        command("run", storage, broken), env=os.environ | {"RAY_ADDRESS": cluster}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    ends = time.monotonic() + 120
    while time.monotonic() < ends and not list(storage.glob("cells/*/checkpoints/step_*[0-9]")):
        time.sleep(0.02)
    kill(process)
    return storage, {run.info.run_id for run in children(storage)}


@pytest.fixture(scope="module")
def broken(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import shutil

    folder = tmp_path_factory.mktemp("corpus") / "photos"
    shutil.copytree(photos, folder)
    (folder / "cut.jpg").write_bytes((photos / "photo-00.jpg").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def finished(killed: tuple[Path, set[str]], cluster: str, broken: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    return killed[0], call(command("run", killed[0], broken), cluster)


def client(storage: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{storage / 'mlflow.db'}")


def children(storage: Path) -> list:
    experiment = client(storage).get_experiment_by_name("e_sweep")
    assert experiment is not None
    return client(storage).search_runs([experiment.experiment_id], f"tags.`{CELL}` != ''")


def test_a_killed_sweep_continues(killed: tuple[Path, set[str]], finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    storage, result = finished
    assert result.returncode == 0, result.stderr
    runs = children(storage)
    assert len(runs) == 4 and {run.info.status for run in runs} == {"FINISHED"}
    assert killed[1] <= {run.info.run_id for run in runs}, "the runs that were begun are continued, not begun again"
    attempts = [run.data.metrics["final/steps_this_attempt"] for run in runs]
    assert min(attempts) < 40, "a cell that had a checkpoint goes on from it"
    for run in runs:
        steps = [point.step for point in client(storage).get_metric_history(run.info.run_id, "train/loss")]
        assert steps == list(range(5, 41, 5)), "no point of a curve is missing or logged twice"


def test_bad_files_are_counted_and_reported(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    storage, result = finished
    assert "1 sample(s) could not be used" in result.stderr and "cut.jpg" in result.stderr
    assert {run.data.metrics["final/rejected"] for run in children(storage)} == {1.0}


def test_a_finished_sweep_runs_nothing(finished: tuple[Path, subprocess.CompletedProcess[str]], broken: Path) -> None:
    storage, first = finished
    before = {run.info.run_id: run.info.end_time for run in children(storage)}
    again = call(command("run", storage, broken), RAY_ADDRESS="")
    assert again.returncode == 0, again.stderr
    assert "nothing to run" in again.stderr
    assert {run.info.run_id: run.info.end_time for run in children(storage)} == before
    assert again.stdout.splitlines()[1:] == first.stdout.splitlines()[1:]


def test_mlflow_holds_everything(finished: tuple[Path, subprocess.CompletedProcess[str]], broken: Path) -> None:
    storage, _ = finished
    run = children(storage)[0]
    parent = client(storage).get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FINISHED"
    assert {"vitok.cell", "vitok.commit", "vitok.corpus", "vitok.scale", "vitok.protocol.rPSNR", "vitok.version"} <= set(run.data.tags)
    assert run.data.params["steps"] == "40" and run.data.params["loss.kl"] == "0.001" and "E" in run.data.params
    names = {item.path for item in client(storage).list_artifacts(run.info.run_id)}
    assert names == {"reconstructions.png", "per_image.json", "recipe.json", "deepspeed.json", "rejected.txt"}
    assert run.data.metrics["final/images"] == 8  # one held-out photograph, eight views


def test_the_report_is_rebuilt_from_mlflow_alone(
    finished: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, broken: Path
) -> None:
    storage, _ = finished
    report = storage / "e_sweep" / "report"
    written = {name: (report / name).read_bytes() for name in ("results.csv", "fits.json", "claims.json", "e_sweep.svg")}
    for path in report.iterdir():
        path.unlink()
    (storage / "cells").rename(tmp_path / "cells-elsewhere")
    result = call(command("report", storage, broken, "--json"))
    assert result.returncode == 0, result.stderr
    assert {name: (report / name).read_bytes() for name in written} == written
    rows = list(csv.DictReader((report / "results.csv").open()))
    assert sorted(int(row["E"]) for row in rows) == [64, 256, 256, 1024]
    fits = json.loads(written["fits.json"])
    assert set(fits) == {"rPSNR", "rSSIM", "LPIPS", "rFD-EffLite0"}
    assert {"slope", "pearson_r", "spearman_rho", "slope_interval", "pearson_r_interval"} <= set(fits["rPSNR"])
    assert [claim["verdict"] for claim in json.loads(written["claims.json"])]
    page = (report / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "data:image/svg+xml;base64," in page and not re.search("https?://", page)
    assert json.loads(result.stdout)["fits"] == fits


def test_status_counts_the_cells(finished: tuple[Path, subprocess.CompletedProcess[str]], broken: Path) -> None:
    result = call(command("status", finished[0], broken, "--json", "--seeds", "0", "1"))
    assert json.loads(result.stdout)["count"] == {"finished": 4, "open": 4}


def test_two_runs_at_once_are_refused(finished: tuple[Path, subprocess.CompletedProcess[str]], cluster: str, broken: Path) -> None:
    import fcntl

    with (finished[0] / "e_sweep" / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = call(command("run", finished[0], broken, "--seeds", "7"), cluster)
    assert result.returncode == 1
    assert "already running this study" in result.stderr and "Traceback" not in result.stderr
