"""A trial of two workers, driven from Tune, its numbers sent to a real MLflow server over HTTP."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.study.test_e_sweep import call, command


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    ends = time.monotonic() + 90
    while True:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=2).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < ends, "the MLflow server did not come up"
            time.sleep(0.5)
    yield address
    os.killpg(process.pid, 15)
    process.wait(timeout=30)


def test_groups_of_workers_report_to_a_server(server: str, cluster: str, photos: Path, tmp_path: Path) -> None:
    """Two cells at once. One diverges: its group, which would start again after any other end, passes on why."""
    grid = ("--set", "grid.tokenizer.channels=4", "--set", "grid.tokenizer.patch=8", "--set", "grid.optimizer.lr=0.032,1e30")
    group = ("--set", "steps=12", "--set", "resources.workers=2", "--set", "resources.zero=1")
    result = call(command("run", tmp_path, photos, *grid, *group), cluster, MLFLOW_TRACKING_URI=server)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("e_sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`vitok.cell` != ''")
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"], result.stderr
    run, failed = sorted(runs, key=lambda run: run.info.status, reverse=True)
    assert run.data.metrics["final/steps_this_attempt"] == 12 and run.data.metrics["final/rPSNR"] > 5
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [5, 10, 12]
    assert "reconstructions.png" in {item.path for item in client.list_artifacts(run.info.run_id)}
    assert not (tmp_path / "mlflow.db").exists()
    settings = json.loads((Path(run.data.tags["vitok.folder"]) / "deepspeed.json").read_text())
    assert settings["tokenizer"]["train_micro_batch_size_per_gpu"] == 2

    reason = failed.data.tags["vitok.error"]
    assert "after 3 returns to step 0, 3 steps in a row were not finite" in reason and "lower optimizer.lr (1e+30)" in reason
    assert (
        result.returncode == 1 and "1 of 2 cells failed" in result.stderr and reason in result.stderr and "Traceback" not in result.stderr
    )
    news = client.download_artifacts(failed.info.run_id, "news.txt", str(tmp_path))
    assert "step 2 skipped: the loss became" in Path(news).read_text()
