"""The training loop, for every task. It does not know who runs it: a trial's own process, or one of a group of workers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist

from vitok.config import Training
from vitok.data.loading.loader import RejectedSamples
from vitok.data.sample import Rejection
from vitok.errors import VitokError
from vitok.evaluation.evaluation import Evaluation
from vitok.storage.layout import RunFolder
from vitok.train.checkpoint.manager import Checkpoints
from vitok.train.engine.deepspeed import Engine
from vitok.train.ranks import Place
from vitok.train.reliability.bad_steps import BackToCheckpointError, KeptBatch, StepHealth, keep_batch
from vitok.train.reliability.preemption import PreemptionNotice
from vitok.train.reliability.timer import StepTimer, memory_peak
from vitok.train.run_spec import RunSpec


class Sink(Protocol):
    """The receiver of curves and news. Only rank 0 has one that keeps what it is given."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Log a point of each curve."""
        ...

    def say(self, step: int, text: str) -> None:
        """Tell the user a line of news."""
        ...

    def back(self, step: int) -> None:
        """Go back to a step: the points after it were of a way that is left, and come again."""
        ...

    def flush(self) -> None:
        """Store all that was given before."""
        ...


class Samples(Protocol):
    """The source of a run's batches."""

    @property
    def rejected(self) -> frozenset[Rejection]:
        """Unusable samples that are known so far."""
        ...

    @property
    def max_rejected(self) -> float:
        """The share of samples that may be unusable."""
        ...

    @property
    def count(self) -> int:
        """The number of samples to train on."""
        ...

    def batches(self, *, seed: int, batch_size: int, start: int, steps: int, rank: int, world: int) -> Iterator[KeptBatch]:
        """Yield this rank's share of the batches of steps start .. steps - 1."""
        ...


class Task(Protocol):
    """A model and its losses: what the loop trains. All randomness of a task is a function of (seed, position of the batch)."""

    engines: list[Engine]
    goal: tuple[str, bool]  # the metric whose best is kept, and whether more of it is better
    flops: float  # of a step, on all ranks

    def prepare(self, batch: Any, position: int) -> Any:
        """Make the inputs of this rank from a batch, on the CPU. Called from another thread, ahead of time."""
        ...

    def backward(self, inputs: Any, step: int) -> dict[str, torch.Tensor]:
        """Run forward and backward of all micro-batches of a step. Return scalars, "loss" among them."""
        ...

    def rates(self, step: int) -> list[float]:
        """Return the learning rate of each engine at a step."""
        ...

    def watch(self) -> dict[str, float]:
        """Return more values of the last step. A collective."""
        ...

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights that are evaluated and kept, on every rank's CPU. A collective."""
        ...

    def evaluate(self, weights: dict[str, torch.Tensor], alive: Callable[[], None]) -> Evaluation:
        """Evaluate weights on the held-out samples, with a call of `alive` for each batch. A collective."""
        ...


@dataclass
class LoopState:
    """The state of the loop. A checkpoint holds it, so that what is logged after a resume is as it would have been."""

    step: int = 0  # the next one
    shift: int = 0  # what is added to it for the number of its batch
    best: tuple[int, float] | None = None  # step and value of the best evaluation
    health: StepHealth = field(default_factory=StepHealth)
    window: list[dict[str, float]] = field(default_factory=list)  # steps since the last point of the curves

    @classmethod
    def of(cls, state: dict[str, Any]) -> "LoopState":
        """Restore the state from a checkpoint's."""
        best = state["best"]
        return cls(state["step"], state["shift"], best and (best[0], best[1]), StepHealth(**state["health"]), state["window"])

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"shift": self.shift, "best": self.best, "health": asdict(self.health), "window": list(self.window)}


@dataclass(frozen=True)
class Worker:
    """The process that runs the loop, one of those that train a model, with what it works with."""

    place: Place
    source: Samples
    sink: Sink
    folder: RunFolder
    peak: float  # FLOP/s of its device
    clock: StepTimer
    notice: PreemptionNotice


@dataclass(frozen=True)
class LoopResult:
    """What the loop did in this call."""

    steps: int  # done by this call; fewer than the recipe's after a resume
    seconds: float  # in the loop
    rejected: frozenset[Rejection]  # samples that could not be decoded, with the reason


def train(task: Task, spec: RunSpec, worker: Worker, checkpoints: Checkpoints, at: LoopState) -> LoopResult:
    """Train from `at` to the recipe's last step.

    Raises `BackToCheckpointError` after too many bad steps in a row, `VitokError` when told that the machine will go.
    """
    recipe, resources, place, clock, sink = spec.recipe, spec.resources, worker.place, worker.clock, worker.sink
    batches = _ahead(task, recipe, worker, at)
    rejected = RejectedSamples(worker.source.max_rejected, worker.source.rejected)
    began = saved_at = time.monotonic()
    first = logged = at.step
    clock.split(1)  # what was before is of no step
    for step in range(first, recipe.steps):
        clock.step = step
        with clock("data"):
            batch, inputs = next(batches)
        rejected.add(batch.rejected, len(batch), worker.source.count)
        with clock("compute"):
            terms = task.backward(inputs, step)
            rates = task.rates(step)
            norms = {engine.name: engine.step(lr) for engine, lr in zip(task.engines, rates, strict=True)}
            old = place.rank == 0 and time.monotonic() - saved_at > 60 * resources.checkpoint_minutes
            values, (noticed, stop, due) = _agreed(terms, (worker.notice.new, worker.notice.stop, old), place)
        values |= {f"grad_norm/{name}": norm for name, norm in norms.items()}
        values |= {f"lr/{engine.name}": lr for engine, lr in zip(task.engines, rates, strict=True)}

        skipped, trouble = at.health.judge(values["loss"], norms)
        if skipped:
            path = keep_batch(worker.folder, batch, step, step + at.shift, place.rank)
            trouble += f"; batch {step + at.shift} of seed {recipe.seed} is kept as {path}"
        else:
            at.window.append(values)
        if trouble:
            sink.say(step + 1, f"step {step + 1} {trouble}")
        if at.health.in_a_row >= resources.bad_steps:
            raise BackToCheckpointError(step, step + at.shift, f"{at.health.in_a_row} steps in a row were not finite; the last: {trouble}")

        at.step = step + 1
        last = at.step == recipe.steps
        point: dict[str, float] = {}
        if resources.evaluate_every and at.step % resources.evaluate_every == 0 and not last:
            with clock("evaluation"):
                metrics = task.evaluate(task.weights(), clock.alive).metrics
            point = {f"validation/{name}": value for name, value in metrics.items()}
            name, more = task.goal
            if at.best is None or (metrics[name] > at.best[1]) == more:
                at.best, due = (at.step, metrics[name]), True
        if at.window and (at.step % resources.log_every == 0 or last):
            with clock("logging"):
                point |= _point(recipe, worker, at, at.step - logged, task.watch(), rejected, task.flops)
            at.window, logged = [], at.step
        if point:
            with clock("logging"):
                sink.log(at.step, point)
        if at.step % resources.checkpoint_every == 0 or last or due or noticed or stop:
            with clock("checkpoint"):
                checkpoints.save(task.engines, at.step, at.state())
                if noticed or stop:
                    checkpoints.finish()  # the node may go before the next step
            saved_at = time.monotonic()
        if noticed:
            worker.notice.take()
            if not stop:
                whose = worker.notice.reason or "of another rank"
                sink.say(at.step, f"a machine will be taken away ({whose}): there is a checkpoint of step {at.step}")
        if stop and not last:
            raise VitokError(f"asked to stop ({worker.notice.reason}) at step {at.step}; the same command goes on from there")
    checkpoints.finish()
    return LoopResult(recipe.steps - first, time.monotonic() - began, frozenset(rejected.found.values()))


def _ahead(task: Task, recipe: Training, worker: Worker, at: LoopState) -> Iterator[tuple[KeptBatch, Any]]:
    """Yield batches with the inputs that the task makes of them, prepared one ahead."""
    place = worker.place
    batches = worker.source.batches(
        seed=recipe.seed, batch_size=recipe.batch_size, start=at.step + at.shift, steps=recipe.steps + at.shift,
        rank=place.rank, world=place.world,
    )  # fmt: skip

    def made(position: int) -> tuple[KeptBatch, Any]:
        batch = next(batches)
        return batch, task.prepare(batch, position)

    positions = range(at.step + at.shift, recipe.steps + at.shift)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(made, positions[0]) if positions else None
        for position in positions:
            assert coming is not None
            found = coming.result()
            coming = thread.submit(made, position + 1) if position + 1 < positions.stop else None
            yield found


def _agreed(terms: dict[str, torch.Tensor], flags: tuple[bool, ...], place: Place) -> tuple[dict[str, float], list[bool]]:
    """Return the mean of each term over the ranks, and for each flag whether a rank has raised it."""
    raised = torch.tensor([float(flag) for flag in flags], device=place.device)
    numbers = torch.cat([torch.stack([term.detach().float() for term in terms.values()]), raised])
    if place.world > 1:
        dist.all_reduce(numbers)
    found = numbers.tolist()
    return {name: value / place.world for name, value in zip(terms, found, strict=False)}, [value > 0 for value in found[len(terms) :]]


def _point(
    recipe: Training, worker: Worker, at: LoopState, steps: int, watched: dict[str, float], rejected: RejectedSamples, flops: float
) -> dict[str, float]:
    """Return one point of every curve: means over the steps since the last point, times of this process."""
    values = {f"train/{name}": sum(each[name] for each in at.window) / len(at.window) for name in at.window[0]}
    split = worker.clock.split(steps)
    rate, world, health = recipe.batch_size / split["time/step"], worker.place.world, at.health
    values |= split | watched
    values |= {
        "train/images_per_s": rate, "train/images_per_s_per_device": rate / world,
        "train/mfu": flops / world / split["time/step"] / worker.peak, "memory/peak_gb": memory_peak(worker.place.device),
        "health/skipped_steps": float(health.skipped), "health/spikes": float(health.spikes), "health/retreats": float(health.retreats),
        "data/rejected": float(len(rejected.found)),
    }  # fmt: skip
    return values | {f"data/rejected/{reason}": float(count) for reason, count in rejected.reasons().items()}
