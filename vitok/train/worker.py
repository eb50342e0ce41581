"""One worker of a run: from its description to weights, an evaluation and files."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vitok.config import Training
from vitok.data.loading import blocks
from vitok.data.sample import Rejection
from vitok.errors import UsageError, VitokError
from vitok.evaluation.evaluation import Evaluation
from vitok.runtime import compute_here
from vitok.storage import mirror
from vitok.train.checkpoint.format import Saved
from vitok.train.checkpoint.manager import Checkpoints
from vitok.train.engine.deepspeed import Place, connect
from vitok.train.loop import Position, Run, Trained, train
from vitok.train.reliability.bad_steps import RETREATS, BackToCheckpointError
from vitok.train.reliability.preemption import Notice
from vitok.train.reliability.timer import Clock, peak
from vitok.train.reliability.watchdog import Watch
from vitok.train.tasks.kinds import Job, Kind, maker


@dataclass(frozen=True)
class Outcome:
    evaluation: Evaluation
    rejected: frozenset[Rejection]
    steps: int  # done by this call
    device_hours: float | None  # of all steps, at the speed of this call's; None: it had none to do
    seconds: dict[str, float]  # "start" (imports, model, engine), "train", "evaluate"


class _Silent:
    def log(self, step: int, values: dict[str, float]) -> None: ...
    def say(self, step: int, text: str) -> None: ...
    def back(self, step: int) -> None: ...
    def flush(self) -> None: ...


def work(job: Job, place: Place, group: bool = False) -> Outcome:
    """What each worker does; `group`: as one of Ray Train's."""
    began = time.perf_counter()
    recipe, resources = job.recipe, job.resources
    if resources.gpus_per_worker and not torch.cuda.is_available():
        raise UsageError("resources.gpus_per_worker = 1, but torch finds no usable GPU here: set it to 0")
    blocks.decode_on(resources.decode)
    if job.identity:
        mirror.expect(mirror.here(job.statistics).parent, job.identity)
    if place.device.type == "cpu":
        compute_here(resources.cpus_per_worker)
    connect(place)
    folder, clock = mirror.here(job.folder), Clock()
    sink = job.sink if place.rank == 0 else _Silent()
    checkpoints = Checkpoints(folder / "checkpoints", place, recipe, resources, sink.flush, lambda text: sink.say(clock.step, text))
    watch, notice = Watch(folder, place, clock, resources.hang_minutes), Notice(resources.spot, group)
    try:
        if news := watch.earlier():
            sink.say(0, f"the attempt before this one ended: {news}")
        speed = peak(place.device, recipe.precision)
        make = maker(job, place)
        running = Run(recipe, resources, place, job.source, sink, folder, speed, clock, notice)
        ready = time.perf_counter()
        task, trained = _trained(make, running, checkpoints)
        done = time.perf_counter()
        with clock("evaluation"):
            state = task.weights()
            evaluation = task.evaluate(state, clock.alive)
        if remark := task.remark(state):
            sink.say(recipe.steps, remark)
    finally:
        checkpoints.close()
        watch.close()
        notice.close()
    if place.rank == 0:
        _export(folder, task, state, recipe)
    seconds = {"start": ready - began, "train": trained.seconds, "evaluate": time.perf_counter() - done}
    hours = trained.seconds * recipe.steps / trained.steps * place.world / 3600 if trained.steps else None
    return Outcome(evaluation, trained.rejected | evaluation.rejected, trained.steps, hours, seconds)


def _trained(make: Callable[[Saved | None], Kind], run: Run, checkpoints: Checkpoints) -> tuple[Kind, Trained]:
    """Train; from the last checkpoint again, with other data, as often as the loss is lost."""
    lost: BackToCheckpointError | None = None
    retreats, last = 0, -1
    while True:
        saved = checkpoints.newest()
        at = Position.of(saved.state) if saved else Position()
        if lost:
            retreats, last = retreats + 1 if at.step == last else 1, at.step
            if retreats > RETREATS:
                raise VitokError(
                    f"after {RETREATS} returns to step {at.step}, {lost.reason}; lower optimizer.lr ({run.recipe.optimizer.lr})"
                )
            at.shift = lost.batch + 1 - at.step  # the next batches are those after the bad one
            at.health.retreats, at.health.in_a_row = at.health.retreats + retreats, 0
            run.sink.say(lost.step + 1, f"{lost.reason}. Back to step {at.step}, with other data")
            run.sink.back(at.step)
        elif saved:
            _say_how_it_goes_on(run, saved.state)
        task = make(saved)
        try:
            return task, train(task, run, checkpoints, at)
        except BackToCheckpointError as error:
            lost = error.with_traceback(None)  # which would keep the engines of this attempt alive
            del task


def _say_how_it_goes_on(run: Run, state: dict[str, Any]) -> None:
    there, here = (state["world"], state["zero"]), (run.place.world, run.resources.zero)
    if there != here:
        run.sink.say(
            state["step"], f"step {state['step']} was saved by {there[0]} worker(s) at ZeRO {there[1]}, goes on with {here[0]} at {here[1]}"
        )


def _export(folder: Path, task: Kind, state: dict[str, Tensor], recipe: Training) -> None:
    """The weights, with the recipe beside them: what a finished run leaves behind."""
    (folder / "recipe.json").write_text(recipe.model_dump_json(indent=2))
    (folder / "deepspeed.json").write_text(json.dumps({engine.name: engine.config for engine in task.engines}, indent=2))
    beside = task.beside()
    for name, content in beside.items():
        (folder / name).write_text(json.dumps(content, indent=2))
    partial = folder / f"{task.file}.partial"
    save_file(state, partial)
    partial.replace(folder / task.file)
    for name in ("recipe.json", "deepspeed.json", *beside, task.file):
        mirror.keep(folder / name)
