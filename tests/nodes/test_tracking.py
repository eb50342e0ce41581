"""MLflow's server over PostgreSQL, artifacts in a store: what all runs of a cluster report to."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.nodes.services import Services
from vitok.tracking.client import Tracker
from vitok.tracking.recorder import Recorder

pytestmark = [pytest.mark.nodes, pytest.mark.timeout(900)]
STUDIES, RUNS, POINTS = 8, 8, 10


@pytest.fixture(autouse=True)
def _server(reached: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in reached.environment.items():
        monkeypatch.setenv(name, value)


def test_many_runs_log_at_once(reached: Services, tmp_path: Path) -> None:
    """Eight sweeps of one study that nobody has run before, eight runs each: every point once, every run whole."""

    def sweep(number: int) -> dict[str, str]:
        tracker = Tracker(reached.mlflow, tmp_path, "many")
        recorder = Recorder(reached.mlflow, str(tmp_path), "many")
        cells = {f"{number}-{run}": tracker.child(None, f"{number}-{run}", "cell", {}, {"number": number}) for run in range(RUNS)}
        for step in range(1, POINTS + 1):
            for run_id in cells.values():
                recorder.log(run_id, step, {"train/loss": number + 1 / step, "train/images_per_second": 100.0})
        for cell, run_id in cells.items():
            recorder.finish(run_id, {"rPSNR": 20.0 + number}, POINTS, {"cell.txt": cell.encode()}, {})
        assert not recorder.news(0)
        return cells

    with ThreadPoolExecutor(STUDIES) as pool:
        swept = list(pool.map(sweep, range(STUDIES)))
    tracker = Tracker(reached.mlflow, tmp_path, "many")
    done = tracker.finished(cell for cells in swept for cell in cells)
    assert {cell: run.info.run_id for cell, run in done.items()} == {cell: run for cells in swept for cell, run in cells.items()}
    for cell, run in list(done.items())[:: RUNS + 1]:
        number = int(cell.partition("-")[0])
        points = tracker.client.get_metric_history(run.info.run_id, "train/loss")
        assert [(point.step, point.value) for point in points] == [(step, number + 1 / step) for step in range(1, POINTS + 1)]
        assert run.data.metrics["final/rPSNR"] == 20.0 + number and tracker.artifact(run.info.run_id, "cell.txt") == cell.encode()


def test_news_reach_the_server(reached: Services, tmp_path: Path) -> None:
    tracker = Tracker(reached.mlflow, tmp_path, "news")
    run_id = tracker.child(None, "cell", "cell", {}, {})
    for lines in (("step 2 skipped", "step 3 skipped"), ("step 9 spike",)):  # a second recorder goes on where one ended
        recorder = Recorder(reached.mlflow, str(tmp_path), "news")
        for line in lines:
            recorder.say(run_id, 1, line)
        recorder.fail(run_id, "too bad")
    assert tracker.artifact(run_id, "news.txt") == b"step 1: step 2 skipped\nstep 1: step 3 skipped\nstep 1: step 9 spike\n"
