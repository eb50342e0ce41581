"""The recorder between trials and MLflow: one process a sweep, on the driver's node.

A trial neither waits for MLflow nor imports it (seconds of a first trial's start: a handle of an actor imports the file
of its class, which is why this one imports next to nothing), and a database file is only written from the node it lies on. Where MLflow
does not answer, points wait here: it may be started again while trials go on.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE, PAUSE = 600.0, 5.0  # seconds for which the end of a run waits for an MLflow that does not answer; between two tries
PASSING = "INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"  # what MLflow's client says of a server that is away


class Recorder:
    """The actor that all trials of a sweep report to."""

    def __init__(self, uri: str, storage: str, study: str) -> None:
        from vitok.tracking.client import Tracker

        self.tracker = Tracker(uri, Path(storage), study)
        self.seen: dict[str, int] = {}
        self.latest: dict[str, tuple[int, dict[str, float]]] = {}
        self.told: list[tuple[str, int, str]] = []
        self.unwritten: dict[str, list[str]] = {}
        self.waiting: dict[
            str, list[tuple[dict[str, float], int, float]]
        ] = {}  # points, with their time; without values: a return to that step
        self.begun: set[str] = set()

    def log(self, run_id: str, step: int, values: dict[str, float]) -> None:
        """Log a point of each curve. Points that an interrupted attempt has logged already are not logged twice."""
        self.latest[run_id] = (step, self.latest.get(run_id, (0, {}))[1] | values)
        self._take(run_id, step, values)

    def back(self, run_id: str, step: int) -> None:
        """Go back to a step: points after it are logged again. MLflow keeps both, in the order of time."""
        self._take(run_id, step, {})

    def _take(self, run_id: str, step: int, values: dict[str, float]) -> None:
        self.waiting.setdefault(run_id, []).append((values, step, time.time()))
        try:
            self._send(run_id)
        except Exception as error:  # of whatever MLflow is made of: again with the next point, or at the end
            if len(self.waiting[run_id]) == 1:
                self.say(run_id, step, f"MLflow does not take points, they wait: {(str(error).strip().splitlines() or [''])[0][:300]}")

    def _send(self, run_id: str) -> None:
        """Send the points of a run that wait, but not those that an earlier attempt has logged."""
        if run_id not in self.begun:
            self.seen[run_id] = self.tracker.last_step(run_id)
            self.tracker.begin(run_id)
            self.begun.add(run_id)
        waiting = self.waiting[run_id]
        while waiting:
            values, step, when = waiting[0]
            if not values:  # a return
                self.seen[run_id] = min(step, self.seen[run_id])
            elif step > self.seen[run_id]:
                self.tracker.log(run_id, values, step, when)
                self.seen[run_id] = step
            waiting.pop(0)

    def say(self, run_id: str, step: int, text: str) -> None:
        """Keep a line of news of a run: for the terminal, and to stay with the run."""
        self.told.append((run_id, step, text))
        self.unwritten.setdefault(run_id, []).append(f"step {step}: {text}\n")

    def news(self, since: int) -> list[tuple[str, int, str]]:
        """Return the news since the first so many: (run, step, text) of each."""
        return self.told[since:]

    def flush(self) -> None:
        """Store all that was sent before: calls are answered in order."""
        for run_id in list(self.waiting):
            _patiently(lambda run_id=run_id: self._send(run_id))
        for run_id in list(self.unwritten):  # here, not with each line: a server takes a second for an artifact
            _patiently(lambda run_id=run_id: self.tracker.add_news(run_id, "".join(self.unwritten[run_id])))
            del self.unwritten[run_id]

    def progress(self) -> dict[str, tuple[int, dict[str, float]]]:
        """Return the last step of every run, with the last value of each of its curves."""
        return self.latest

    def finish(self, run_id: str, values: dict[str, float], step: int, artifacts: dict[str, bytes], tags: dict[str, str]) -> None:
        """Log all that a finished run leaves, after all that waits."""
        self.flush()
        _patiently(lambda: self.tracker.finish(run_id, values, step, artifacts, tags))

    def fail(self, run_id: str, reason: str) -> None:
        """Mark a run as failed, after all that waits is logged."""
        self.flush()
        _patiently(lambda: self.tracker.fail(run_id, reason))


def _patiently(call: Callable[[], None]) -> None:
    """Call again and again while MLflow does not answer: what would be lost may be days of training. Raises what it says at last."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    Retrying(retry=retry_if_exception(_is_passing), stop=stop_after_delay(PATIENCE), wait=wait_fixed(PAUSE), reraise=True)(call)


def _is_passing(error: BaseException) -> bool:
    """Return whether an error may be gone at the next try: MLflow's client names its own, all others are of the way to it."""
    return isinstance(error, Exception) and getattr(error, "error_code", PASSING[0]) in PASSING


class RecorderSink:
    """The sink of a trial: its curves and news, sent to the recorder without waiting."""

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
