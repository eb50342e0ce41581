"""Between trials and MLflow: no point twice, none lost."""

from pathlib import Path
from typing import Any

import pytest


def test_the_way_after_a_return_is_logged_again(tmp_path: Path) -> None:
    from vitok.tracking.client import Tracker, address
    from vitok.tracking.recorder import Recorder

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

    from vitok.tracking import recorder as module
    from vitok.tracking.client import Tracker, address

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

    from vitok.tracking.client import address
    from vitok.tracking.recorder import Recorder

    recorder = Recorder(address(tmp_path), str(tmp_path), "refused")
    recorder.log("0" * 32, 1, {"train/loss": 0.5})
    assert "they wait: " in recorder.news(0)[0][2] and "not found" in recorder.news(0)[0][2]
    with pytest.raises(MlflowException, match="not found"):
        recorder.finish("0" * 32, {}, 1, {}, {})


def test_a_return_waits_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitok.tracking.client import Tracker, address
    from vitok.tracking.recorder import Recorder

    tracker = Tracker(address(tmp_path), tmp_path, "returns")
    run_id = tracker.child(None, "cell", "cell", {}, {})
    recorder = Recorder(address(tmp_path), str(tmp_path), "returns")
    with monkeypatch.context() as away:
        away.setattr(Tracker, "log", lambda *_: 1 / 0)
        for step, loss in ((1, 0.5), (2, 9.0)):
            recorder.log(run_id, step, {"train/loss": loss})
        recorder.back(run_id, 1)
        recorder.log(run_id, 2, {"train/loss": 0.4})
    recorder.flush()
    points = sorted((point.step, point.value) for point in tracker.client.get_metric_history(run_id, "train/loss"))
    assert points == [(1, 0.5), (2, 0.4), (2, 9.0)], "what was there before the return, and after it"
