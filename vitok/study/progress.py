"""What a person sees while cells run: bars on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from vitok.study.grid import Cell

EVERY = 15.0  # seconds between plain lines


class Progress:
    """Speaks on stderr: stdout is for results."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.began = time.monotonic()

    def line(self, text: str) -> None:
        if sys.stderr.isatty():
            self.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def following(self, recorder: Any, cells: dict[str, Cell]) -> Iterator[None]:
        """Show the steps of every running cell until the block ends. `cells` by MLflow run."""
        ended = threading.Event()
        show = self._bars if sys.stderr.isatty() else self._lines
        thread = threading.Thread(target=show, args=(recorder, cells, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=10)

    def _bars(self, recorder: Any, cells: dict[str, Cell], ended: threading.Event) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        total = sum(cell.recipe.steps for cell in cells.values())
        with Bars(*columns, console=self.console) as bars:
            whole = bars.add_task(f"{len(cells)} cells, all steps", total=total, note="")
            tasks: dict[str, Any] = {}
            told = 0
            while not ended.wait(1.0):
                told = self._tell(recorder, cells, told)
                points = latest(recorder)
                for run, (step, values) in points.items():
                    if run not in tasks:
                        tasks[run] = bars.add_task(cells[run].label, total=cells[run].recipe.steps, note="")
                    note = _note(values)
                    bars.update(tasks[run], completed=step, note=note, visible=step < cells[run].recipe.steps)
                bars.update(whole, completed=sum(step for step, _ in points.values()))
            bars.update(whole, completed=sum(step for step, _ in latest(recorder).values()))

    def _lines(self, recorder: Any, cells: dict[str, Cell], ended: threading.Event) -> None:
        shown: set[str] = set()
        next_line = time.monotonic() + EVERY
        told = 0
        while not ended.wait(0.5):
            told = self._tell(recorder, cells, told)
            points = latest(recorder)
            for run, (step, values) in points.items():
                if step == cells[run].recipe.steps and run not in shown:
                    shown.add(run)
                    self.line(f"[{self.clock()}] {cells[run].label}: trained, {_note(values)} ({len(shown)} of {len(cells)})")
            if time.monotonic() >= next_line:
                next_line += EVERY
                running = [f"{cells[run].label} {step}/{cells[run].recipe.steps}" for run, (step, _) in points.items() if run not in shown]
                self.line(f"[{self.clock()}] {'; '.join(running) or 'starting'}")

    def _tell(self, recorder: Any, cells: dict[str, Cell], told: int) -> int:
        found = news(recorder, told)
        for run, _, text in found:
            self.line(f"[{self.clock()}] {cells[run].label}: {text}")
        return told + len(found)

    def clock(self) -> str:
        seconds = int(time.monotonic() - self.began)
        return f"{seconds // 60}:{seconds % 60:02d}"


def _note(values: dict[str, float]) -> str:
    """The first points may be those of an evaluation alone."""
    shown = [f"loss {values['train/loss']:.4f}"] if "train/loss" in values else []
    return ", ".join(shown + ([f"{values['train/images_per_s']:.0f} images/s"] if "train/images_per_s" in values else []))


def latest(recorder: Any) -> dict[str, tuple[int, dict[str, float]]]:
    return _asked(recorder.progress, {})


def news(recorder: Any, since: int) -> list[tuple[str, int, str]]:
    """What runs had to say: (run, step, text)."""
    return _asked(recorder.news, [], since)


def _asked(method: Any, nothing: Any, *arguments: Any) -> Any:
    import ray
    from ray.exceptions import RayError

    try:
        return ray.get(method.remote(*arguments), timeout=5)
    except RayError:  # the recorder is busy or going down with the cluster: the picture waits
        return nothing
