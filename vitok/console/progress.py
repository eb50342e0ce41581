"""Progress of cells while they run: bars on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

EVERY = 15.0  # seconds between plain lines


class Followed(NamedTuple):
    """A run that is shown."""

    label: str
    steps: int


class Progress:
    """The terminal while something runs. It speaks on stderr: stdout is for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.began = time.monotonic()
        self.told = 0  # news that were shown

    def line(self, text: str) -> None:
        """Show a line of text."""
        if sys.stderr.isatty():
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def following(self, recorder: Any, runs: dict[str, Followed]) -> Iterator[None]:
        """Show the steps of every running cell until the block ends. `runs` by their id in MLflow."""
        with in_background(self._bars if sys.stderr.isatty() else self._lines, recorder, runs):
            yield

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int, int], None]]:
        """Show how far a count has come: a bar on a terminal, a line every few seconds elsewhere. Yields the function to call with (done,
        of all, done by this process)."""
        began, last = time.monotonic(), time.monotonic()
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
            )
            with Bars(*columns, console=self.console) as bars:
                task = bars.add_task(what, total=None, rate="")

                def show(done: int, total: int, here: int) -> None:
                    bars.update(task, completed=done, total=total, rate=f"{here / (time.monotonic() - began):.1f} a second")

                yield show
            return

        def say(done: int, total: int, here: int) -> None:
            nonlocal last
            now = time.monotonic()
            if done < total and now - last < EVERY:
                return
            last, rate = now, here / (now - began)
            left = f", about {(total - done) / rate:.0f} s left" if done < total else ""
            self.line(f"[{self.clock()}] {what}: {done} of {total}, {rate:.1f} a second{left}")

        yield say

    def news(self, recorder: Any, labels: dict[str, str]) -> None:
        """Show the news of a recorder's runs, each once. `labels` by the run's id in MLflow."""
        found = call_actor(recorder.news, [], self.told)
        for run, _, text in found:
            self.line(f"[{self.clock()}] {labels.get(run, '')}{text}")
        self.told += len(found)

    def _bars(self, recorder: Any, runs: dict[str, Followed], ended: threading.Event) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        total = sum(one.steps for one in runs.values())
        with Bars(*columns, console=self.console) as bars:
            whole = bars.add_task(f"{len(runs)} cells, all steps", total=total, note="")
            tasks: dict[str, Any] = {}
            labels = {run: f"{one.label}: " for run, one in runs.items()}
            while not ended.wait(1.0):
                self.news(recorder, labels)
                points = _of(latest(recorder), runs)
                for run, (step, values) in points.items():
                    if run not in tasks:
                        tasks[run] = bars.add_task(runs[run].label, total=runs[run].steps, note="")
                    note = _note(values)
                    bars.update(tasks[run], completed=step, note=note, visible=step < runs[run].steps)
                bars.update(whole, completed=sum(step for step, _ in points.values()))
            bars.update(whole, completed=sum(step for step, _ in _of(latest(recorder), runs).values()))

    def _lines(self, recorder: Any, runs: dict[str, Followed], ended: threading.Event) -> None:
        shown: set[str] = set()
        next_line = time.monotonic() + EVERY
        labels = {run: f"{one.label}: " for run, one in runs.items()}
        while not ended.wait(0.5):
            self.news(recorder, labels)
            points = _of(latest(recorder), runs)
            for run, (step, values) in points.items():
                if step == runs[run].steps and run not in shown:
                    shown.add(run)
                    self.line(f"[{self.clock()}] {runs[run].label}: trained, {_note(values)} ({len(shown)} of {len(runs)})")
            if time.monotonic() >= next_line:
                next_line += EVERY
                running = [f"{runs[run].label} {step}/{runs[run].steps}" for run, (step, _) in points.items() if run not in shown]
                self.line(f"[{self.clock()}] {'; '.join(running) or ('measuring' if shown else 'starting')}")

    def clock(self) -> str:
        """Return the time since the start, as 3:07."""
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"


def _of(points: dict[str, Any], runs: dict[str, Followed]) -> dict[str, Any]:
    """Return the points of these runs alone: each level of a sweep has runs of its own."""
    return {run: point for run, point in points.items() if run in runs}


def _note(values: dict[str, float]) -> str:
    """Return loss and speed in words, as far as they are known: the first points may be those of an evaluation alone."""
    shown = [f"loss {values['train/loss']:.4f}"] if "train/loss" in values else []
    return ", ".join(shown + ([f"{values['train/images_per_s']:.0f} images/s"] if "train/images_per_s" in values else []))


@contextmanager
def in_background(show: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """Call `show(*arguments, ended)` in a thread until the block has ended and the end has been shown."""
    ended = threading.Event()
    thread = threading.Thread(target=show, args=(*arguments, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


def latest(recorder: Any) -> dict[str, tuple[int, dict[str, float]]]:
    """Return the last step of every run, with the last value of each of its curves, by the run's id in MLflow."""
    return call_actor(recorder.progress, {})


def call_actor(method: Any, nothing: Any, *arguments: Any) -> Any:
    """Return the answer of an actor's method; `nothing` where it is busy, or going down with the cluster: the picture waits."""
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(method.remote(*arguments), timeout=5)
    except RayError:
        return nothing
