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
from typing import Any

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
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # processes for what is not asked of it
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


def test_a_group_of_workers_reports_to_a_server(server: str, cluster: str, photos: Path, tmp_path: Path) -> None:
    one = ("--set", "grid.tokenizer.channels=4", "--set", "grid.tokenizer.patch=8", "--set", "steps=12")
    group = ("--set", "resources.workers=2", "--set", "resources.zero=1")
    result = call(command("run", tmp_path, photos, *one, *group), cluster, MLFLOW_TRACKING_URI=server)
    assert result.returncode == 0, result.stderr
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("e_sweep")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id], "tags.`vitok.cell` != ''")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["final/steps_this_attempt"] == 12 and run.data.metrics["final/rPSNR"] > 5
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [5, 10, 12]
    assert "reconstructions.png" in {item.path for item in client.list_artifacts(run.info.run_id)}
    assert not (tmp_path / "mlflow.db").exists()
    settings = json.loads((Path(run.data.tags["vitok.folder"]) / "deepspeed.json").read_text())
    assert settings["tokenizer"]["train_micro_batch_size_per_gpu"] == 2


def test_news_reaches_the_server(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)  # MLflow sets it for the processes that this one will start: here undone
    from vitok.study.recorder import Recorder
    from vitok.study.tracking import Tracker

    tracker = Tracker(server, tmp_path, "news")
    run_id = tracker.child(None, "cell", "cell", {}, {})
    for lines in (("step 2 skipped", "step 3 skipped"), ("step 9 spike",)):  # a second recorder goes on where one ended
        recorder = Recorder(server, str(tmp_path), "news")
        for line in lines:
            recorder.say(run_id, 1, line)
        recorder.fail(run_id, "too bad")
    news = tracker.client.download_artifacts(run_id, "news.txt", str(tmp_path))
    assert Path(news).read_text() == "step 1: step 2 skipped\nstep 1: step 3 skipped\nstep 1: step 9 spike\n"


def test_the_way_after_a_return_is_logged_again(tmp_path: Path) -> None:
    from vitok.study.recorder import Recorder
    from vitok.study.tracking import Tracker, address

    tracker = Tracker(address(tmp_path), tmp_path, "returns")
    run_id = tracker.child(None, "cell", "cell", {}, {})
    recorder = Recorder(address(tmp_path), str(tmp_path), "returns")
    for step, loss in ((1, 0.5), (2, 0.4), (2, 9.0), (3, 0.3)):  # the second of step 2 is from an interrupted attempt
        recorder.log(run_id, step, {"train/loss": loss})
    recorder.back(run_id, 1)
    for step, loss in ((2, 0.41), (3, 0.31)):
        recorder.log(run_id, step, {"train/loss": loss})
    points = sorted(tracker.client.get_metric_history(run_id, "train/loss"), key=lambda point: (point.step, point.timestamp))
    assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.4), (2, 0.41), (3, 0.3), (3, 0.31)]


def test_what_mlflow_does_not_take_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is away for some points and at a run's end: nothing is lost, nothing is there twice, and it is said."""
    from mlflow.exceptions import MlflowException

    from vitok.study import recorder as module
    from vitok.study.tracking import Tracker, address

    tracker = Tracker(address(tmp_path), tmp_path, "away")
    run_id = tracker.child(None, "cell", "cell", {}, {})
    recorder = module.Recorder(address(tmp_path), str(tmp_path), "away")
    there, calls = Tracker.log, list[int]()

    def log(self: Tracker, *arguments: Any) -> None:
        calls.append(arguments[2])
        if len(calls) not in (2, 4, 5, 6):  # the third is taken, but its answer is lost
            there(self, *arguments)
        if 2 <= len(calls) <= 6:
            raise MlflowException("API request failed: connection refused")

    monkeypatch.setattr(Tracker, "log", log)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    for step in range(1, 5):
        recorder.log(run_id, step, {"train/loss": 1 / step})
    assert [text for _, _, text in recorder.news(0)] == ["MLflow does not take points, they wait: API request failed: connection refused"]
    recorder.finish(run_id, {"rPSNR": 20.0}, 4, {}, {})
    points = tracker.client.get_metric_history(run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(step, 1 / step) for step in range(1, 5)]
    assert tracker.client.get_run(run_id).info.status == "FINISHED"
    assert calls == [1, 2, 2, 2, 2, 2, 2, 3, 4, 4]


def test_what_mlflow_refuses_is_not_waited_for(tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException

    from vitok.study.recorder import Recorder
    from vitok.study.tracking import address

    recorder = Recorder(address(tmp_path), str(tmp_path), "refused")
    recorder.log("0" * 32, 1, {"train/loss": 0.5})
    assert "they wait: " in recorder.news(0)[0][2] and "not found" in recorder.news(0)[0][2]
    with pytest.raises(MlflowException, match="not found"):
        recorder.finish("0" * 32, {}, 1, {}, {})
