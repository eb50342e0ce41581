"""One worker of a run: from its description to weights, an evaluation and files."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vitok.config import Training, check_resources
from vitok.data.loading import blocks
from vitok.data.sample import Rejection
from vitok.errors import UsageError, VitokError
from vitok.evaluation.evaluation import Evaluation
from vitok.runtime import compute_here
from vitok.storage.layout import RunFolder
from vitok.train.checkpoint.format import Saved
from vitok.train.checkpoint.manager import Checkpoints
from vitok.train.engine.deepspeed import init_deepspeed
from vitok.train.loop import LoopResult, LoopState, Sink, Worker, train
from vitok.train.ranks import Place
from vitok.train.reliability.bad_steps import RETREATS, BackToCheckpointError
from vitok.train.reliability.preemption import PreemptionNotice
from vitok.train.reliability.timer import StepTimer, peak_flops
from vitok.train.reliability.watchdog import Watchdog
from vitok.train.run_spec import RunInputs, RunSpec
from vitok.train.tasks.build import AnyTask, task_builder


@dataclass(frozen=True)
class RunOutcome:
    """What a run has come to: its evaluation, and what it took."""

    evaluation: Evaluation
    rejected: frozenset[Rejection]
    steps: int  # done by this call
    device_hours: float | None  # of all steps, at the speed of this call's; None: it had none to do
    seconds: dict[str, float]  # "start" (imports, model, engine), "train", "evaluate"


class _Silent:
    """The sink of ranks other than 0."""

    def log(self, step: int, values: dict[str, float]) -> None: ...
    def say(self, step: int, text: str) -> None: ...
    def back(self, step: int) -> None: ...
    def flush(self) -> None: ...


def run(spec: RunSpec, inputs: RunInputs, sink: Sink, place: Place | None = None, group: bool = False) -> RunOutcome:
    """Train and evaluate in this process; continue from the run's folder if it was begun before.

    `place` is this process among the workers (default: the only one), `group` whether Ray Train runs it. Raises `VitokError` for what
    would fail again.
    """
    began = time.perf_counter()
    recipe, resources = spec.recipe, spec.resources
    check_resources(recipe, resources)
    place = place or Place(device=torch.device("cuda", 0) if resources.gpus_per_worker else torch.device("cpu"))
    if resources.gpus_per_worker and not torch.cuda.is_available():
        raise UsageError("resources.gpus_per_worker = 1, but torch finds no usable GPU here: set it to 0")
    blocks.decode_on(resources.decode)
    if spec.storage_identity:
        spec.storage.expect(spec.storage_identity)
    if place.device.type == "cpu":
        compute_here(resources.cpus_per_worker)
    init_deepspeed(place)
    folder, clock = spec.folder, StepTimer()
    sink = sink if place.rank == 0 else _Silent()
    checkpoints = Checkpoints(
        folder.file(folder.CHECKPOINTS), place, recipe, resources, sink.flush, lambda text: sink.say(clock.step, text)
    )
    watch, notice = Watchdog(folder, place, clock, resources.hang_minutes), PreemptionNotice(resources.spot, group)
    try:
        if news := watch.earlier():
            sink.say(0, f"the attempt before this one ended: {news}")
        build = task_builder(spec, inputs, place)
        worker = Worker(place, inputs.source(spec), sink, folder, peak_flops(place.device, recipe.precision), clock, notice)
        ready = time.perf_counter()
        task, trained = _trained(build, spec, worker, checkpoints)
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
    return RunOutcome(evaluation, trained.rejected | evaluation.rejected, trained.steps, hours, seconds)


def _trained(
    build: Callable[[Saved | None], AnyTask], spec: RunSpec, worker: Worker, checkpoints: Checkpoints
) -> tuple[AnyTask, LoopResult]:
    """Train to the last step: where the loss is lost, from the last checkpoint again, with other data."""
    lost: BackToCheckpointError | None = None
    retreats, last = 0, -1
    while True:
        saved = checkpoints.newest()
        at = LoopState.of(saved.state) if saved else LoopState()
        if lost:
            retreats, last = retreats + 1 if at.step == last else 1, at.step
            if retreats > RETREATS:
                raise VitokError(
                    f"after {RETREATS} returns to step {at.step}, {lost.reason}; lower optimizer.lr ({spec.recipe.optimizer.lr})"
                )
            at.shift = lost.batch + 1 - at.step  # the next batches are those after the bad one
            at.health.retreats, at.health.in_a_row = at.health.retreats + retreats, 0
            worker.sink.say(lost.step + 1, f"{lost.reason}. Back to step {at.step}, with other data")
            worker.sink.back(at.step)
        elif saved:
            _say_how_it_goes_on(spec, worker, saved.state)
        task = build(saved)
        try:
            return task, train(task, spec, worker, checkpoints, at)
        except BackToCheckpointError as error:
            lost = error.with_traceback(None)  # which would keep the engines of this attempt alive
            del task


def _say_how_it_goes_on(spec: RunSpec, worker: Worker, state: dict[str, Any]) -> None:
    there, here = (state["world"], state["zero"]), (worker.place.world, spec.resources.zero)
    if there != here:
        worker.sink.say(
            state["step"], f"step {state['step']} was saved by {there[0]} worker(s) at ZeRO {there[1]}, goes on with {here[0]} at {here[1]}"
        )


def _export(folder: RunFolder, task: AnyTask, state: dict[str, Tensor], recipe: Training) -> None:
    """Write what a finished run leaves: the recipe, DeepSpeed's settings, then the weights, by which a run is known as finished, and the
    hashes of all that is read again."""
    folder.write(folder.RECIPE, recipe.model_dump_json(indent=2))
    folder.write(folder.DEEPSPEED, json.dumps({engine.name: engine.config for engine in task.engines}, indent=2))
    for name, content in task.beside().items():
        folder.write(name, json.dumps(content, indent=2))
    folder.write_with(task.file, lambda path: save_file(state, path))
    folder.seal(task.file, folder.RECIPE, *task.beside())
