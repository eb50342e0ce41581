"""Between trials and MLflow: one process a sweep, on the driver's node.

A trial neither waits for MLflow nor imports it (seconds of a first trial's start: a handle of an actor imports the file
of its class, which is why this one imports nothing), and a database file is only written from the node it lies on.
"""

from pathlib import Path
from typing import Any

PROTOCOL = "vitok.protocol."  # before a metric's name: the tag that says how it was measured


class Recorder:
    """The actor. All trials of a sweep report to it."""

    def __init__(self, uri: str, storage: str, study: str) -> None:
        from vitok.study.tracking import Tracker

        self.tracker = Tracker(uri, Path(storage), study)
        self.seen: dict[str, int] = {}
        self.latest: dict[str, tuple[int, dict[str, float]]] = {}
        self.told: list[tuple[str, int, str]] = []
        self.unwritten: dict[str, list[str]] = {}

    def log(self, run_id: str, step: int, values: dict[str, float]) -> None:
        """A point of each curve. Points that an interrupted attempt has logged already are not logged twice."""
        if run_id not in self.seen:
            self.seen[run_id] = self.tracker.last_step(run_id)
            self.tracker.begin(run_id)
        self.latest[run_id] = (step, self.latest.get(run_id, (0, {}))[1] | values)
        if step > self.seen[run_id]:
            self.tracker.log(run_id, values, step)
            self.seen[run_id] = step

    def say(self, run_id: str, step: int, text: str) -> None:
        """News of a run: to the terminal, and to stay with it."""
        self.told.append((run_id, step, text))
        self.unwritten.setdefault(run_id, []).append(f"step {step}: {text}\n")

    def back(self, run_id: str, step: int) -> None:
        """Points after this step are logged again; MLflow keeps both, in the order of time."""
        self.seen[run_id] = min(step, self.seen.get(run_id, step))

    def news(self, since: int) -> list[tuple[str, int, str]]:
        return self.told[since:]

    def flush(self) -> None:
        """Returns when all that was sent before is stored: calls are answered in order."""
        for run_id in list(self.unwritten):  # here, not with each line: a server takes a second for an artifact
            self.tracker.add_news(run_id, "".join(self.unwritten.pop(run_id)))

    def progress(self) -> dict[str, tuple[int, dict[str, float]]]:
        return self.latest

    def finish(self, run_id: str, values: dict[str, float], step: int, artifacts: dict[str, bytes], tags: dict[str, str]) -> None:
        self.flush()
        self.tracker.finish(run_id, values, step, artifacts, tags)

    def fail(self, run_id: str, reason: str) -> None:
        self.flush()
        self.tracker.fail(run_id, reason)


class RecorderSink:
    """A trial's curves, sent to the recorder without waiting."""

    def __init__(self, recorder: Any, run_id: str) -> None:
        self.recorder, self.run_id = recorder, run_id

    def log(self, step: int, values: dict[str, float]) -> None:
        self.recorder.log.remote(self.run_id, step, values)

    def say(self, step: int, text: str) -> None:
        self.recorder.say.remote(self.run_id, step, text)

    def back(self, step: int) -> None:
        self.recorder.back.remote(self.run_id, step)

    def flush(self) -> None:
        import ray

        ray.get(self.recorder.flush.remote())
