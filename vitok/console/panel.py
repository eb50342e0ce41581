"""A panel of one run while it trains: live on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.panel import Panel as Frame
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from vitok.config import Training
from vitok.console.progress import EVERY, Progress, in_background, latest

PHASES = ("data", "compute", "evaluation", "logging", "checkpoint")


class Panel:
    """The panel of one run."""

    def __init__(self, console: Progress) -> None:
        self.console = console

    @contextmanager
    def following(self, recorder: Any, run_id: str, name: str, recipe: Training) -> Iterator[None]:
        """Show where the run stands until the block ends."""
        with in_background(self._live if self.console.console.is_terminal else self._plain, recorder, run_id, name, recipe):
            yield

    def _live(self, recorder: Any, run_id: str, name: str, recipe: Training, ended: threading.Event) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        bars = Bars(*columns, console=self.console.console)
        bar = bars.add_task(name, total=recipe.steps)
        with Live(console=self.console.console, refresh_per_second=4) as live:
            while True:
                over = ended.wait(0.5)
                self.console.news(recorder, {run_id: ""})
                step, values = latest(recorder).get(run_id, (0, {}))
                bars.update(bar, completed=step)
                live.update(Group(bars, frame(values)) if values else bars)
                if over:
                    return

    def _plain(self, recorder: Any, run_id: str, name: str, recipe: Training, ended: threading.Event) -> None:
        shown, next_line = 0, time.monotonic() + EVERY
        while True:
            over = ended.wait(0.5)
            self.console.news(recorder, {run_id: ""})
            step, values = latest(recorder).get(run_id, (0, {}))
            if (over or time.monotonic() >= next_line) and step > shown:
                next_line, shown = time.monotonic() + EVERY, step
                self.console.line(f"[{self.console.clock()}] step {step}/{recipe.steps}: {sentence(values)}")
            if over:
                return


def sentence(values: dict[str, float]) -> str:
    """Return losses, evaluations and speed in one line."""
    parts = [f"{name} {values[f'train/{name}']:.4f}" for name in ("loss", "l2", "l1", "lpips", "kl") if f"train/{name}" in values]
    parts += [f"{name} {value:.4g}" for key, value in values.items() if (name := key.removeprefix("validation/")) != key]
    if "train/images_per_s" in values:
        data = values.get("time/data", 0) / values["time/step"]
        parts.append(f"{values['train/images_per_s']:.1f} images/s ({data:.1%} waiting for data), MFU {values['train/mfu']:.1%}")
    return ", ".join(parts)


def frame(values: dict[str, float]) -> Frame:
    """Lay out all that is watched, in four columns."""
    columns = (
        ("loss", _starting(values, "train/", ("grad_norm", "lr", "images", "mfu"))),
        ("gradient, rate", {k: v for k, v in _starting(values, "train/", ()).items() if k.startswith(("grad_norm", "lr"))}),
        ("speed", _speed(values)),
        ("latents, health", _starting(values, "latent/", ()) | _starting(values, "health/", ()) | _starting(values, "validation/", ())),
    )
    table = Table.grid(padding=(0, 3))
    table.add_row(*(_column(title, rows) for title, rows in columns))
    return Frame(table, title="training", border_style="dim")


def _speed(values: dict[str, float]) -> dict[str, float | str]:
    if "time/step" not in values:
        return {}
    step = values["time/step"]
    found: dict[str, float | str] = {
        "images/s": values["train/images_per_s"], "a device": values["train/images_per_s_per_device"],
        "MFU": f"{values['train/mfu']:.1%}", "step": f"{step:.3g} s",
    }  # fmt: skip
    found |= {f"  {phase}": f"{values[f'time/{phase}'] / step:.1%}" for phase in PHASES if f"time/{phase}" in values}
    return found | {"memory": f"{values['memory/peak_gb']:.2f} GB"}


def _starting(values: dict[str, float], prefix: str, without: tuple[str, ...]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix) and not k.removeprefix(prefix).startswith(without)}


def _column(title: str, rows: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_row(f"[bold]{title}")
    for name, value in rows.items():
        table.add_row(f"[dim]{name}", value if isinstance(value, str) else f"{value:.4g}")
    return table
