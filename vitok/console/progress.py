"""What a person sees while cells run: bars on a terminal, plain lines elsewhere."""

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
        if sys.stderr.isatty():
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def following(self, recorder: Any, runs: dict[str, Followed]) -> Iterator[None]:
        """Show the steps of every running cell until the block ends. `runs` by their id in MLflow."""
        with beside(self._bars if sys.stderr.isatty() else self._lines, recorder, runs):
            yield

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int, int], None]]:
        """A bar on a terminal, a line every few seconds elsewhere, for (done, of all, of them in this call)."""
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
        """What runs of this recorder had to say, each once. `labels` by MLflow run."""
        found = asked(recorder.news, [], self.told)
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
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"


def _of(points: dict[str, Any], runs: dict[str, Followed]) -> dict[str, Any]:
    """Those of these runs: of a study's rounds each has its own."""
    return {run: point for run, point in points.items() if run in runs}


def _note(values: dict[str, float]) -> str:
    """The first points may be those of an evaluation alone."""
    shown = [f"loss {values['train/loss']:.4f}"] if "train/loss" in values else []
    return ", ".join(shown + ([f"{values['train/images_per_s']:.0f} images/s"] if "train/images_per_s" in values else []))


@contextmanager
def beside(show: Callable[..., None], *arguments: Any) -> Iterator[None]:
    """`show(*arguments, ended)` in a thread, until the block has ended and it has shown the end."""
    ended = threading.Event()
    thread = threading.Thread(target=show, args=(*arguments, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=10)


def latest(recorder: Any) -> dict[str, tuple[int, dict[str, float]]]:
    """By MLflow run: the last step that was logged, and the last of each value."""
    return asked(recorder.progress, {})


def asked(method: Any, nothing: Any, *arguments: Any) -> Any:
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(method.remote(*arguments), timeout=5)
    except RayError:  # the recorder is busy or going down with the cluster: the picture waits
        return nothing
