"""The training loop. It does not know who runs it: a trial's own process, or one of a group of workers."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from vitok.config import Optimizer, Recipe, Resources
from vitok.data.sample import Rejection
from vitok.data.stream import Batch, Rejected, Source
from vitok.errors import VitokError
from vitok.train.checkpoint import Checkpoints
from vitok.train.engine import Engine, Place


class Sink(Protocol):
    """Where curves go. Only rank 0 has one that keeps what it is given."""

    def log(self, step: int, values: dict[str, float]) -> None: ...

    def flush(self) -> None: ...


class Task(Protocol):
    """What is trained."""

    def terms(self, engine: Engine, batch: Batch, step: int) -> dict[str, Tensor]:
        """Scalars of one batch, "loss" among them, whose gradient is followed."""
        ...


@dataclass(frozen=True)
class Trained:
    steps: int  # done by this call; fewer than the recipe's after a resume
    seconds: float  # in the loop, without the first batch's wait
    rejected: frozenset[Rejection]  # samples that could not be decoded, with the reason


def train(
    task: Task, engine: Engine, source: Source, checkpoints: Checkpoints, sink: Sink,
    recipe: Recipe, resources: Resources, place: Place,
) -> Trained:  # fmt: skip
    """Train to the recipe's last step, from the newest checkpoint if there is one. Raises `VitokError` if the loss diverges."""
    first = checkpoints.restore(engine)
    batches = source.batches(
        seed=recipe.seed, batch_size=recipe.batch_size, start=first, steps=recipe.steps, rank=place.rank, world=place.world
    )
    rejected = Rejected(recipe.data.max_rejected, source.rejected)
    window, norms = list[Tensor](), list[float]()
    names: list[str] = []
    engine.train()
    began = since = time.perf_counter()
    for step, batch in enumerate(batches, start=first):
        terms = task.terms(engine, batch, step)
        lr = learning_rate(recipe.optimizer, recipe.batch_size, step, recipe.steps)
        norms.append(engine.update(terms["loss"], lr))
        names = list(terms)
        window.append(torch.stack([term.detach() for term in terms.values()]))
        rejected.add(batch.rejected, len(batch.images), sum(source.training.counts))

        done = step + 1
        if done % resources.log_every == 0 or done == recipe.steps:
            means = torch.stack(window).mean(0)
            dist.all_reduce(means)
            values = {f"train/{name}": value / place.world for name, value in zip(names, means.tolist(), strict=True)}
            if not math.isfinite(values["train/loss"]):
                raise VitokError(f"the loss became {values['train/loss']} by step {done}; lower optimizer.lr ({recipe.optimizer.lr})")
            now = time.perf_counter()
            values |= {"train/lr": lr, "train/grad_norm": sum(norms) / len(norms), "data/rejected": float(len(rejected.found))}
            values |= {f"data/rejected/{reason}": float(count) for reason, count in rejected.reasons().items()}
            values["train/images_per_s"] = len(window) * recipe.batch_size / (now - since)
            sink.log(done, values)
            window, norms, since = [], [], now
        if done % resources.checkpoint_every == 0 or done == recipe.steps:
            sink.flush()  # what a checkpoint covers is in the tracker before the checkpoint exists
            checkpoints.save(engine, done)
    return Trained(recipe.steps - first, time.perf_counter() - began, frozenset(rejected.found.values()))


def learning_rate(optimizer: Optimizer, batch_size: int, step: int, steps: int) -> float:
    """Linear warmup, then cosine to zero; the peak is `lr` for every 256 samples of the batch (section 2.3)."""
    peak, warmup = optimizer.lr * batch_size / 256, round(optimizer.warmup * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
