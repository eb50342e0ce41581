"""Checkpoints that are complete or do not exist, written while training goes on.

`format` knows what a file holds, `store` where checkpoints are kept. A step is held up only while its tensors are copied to the CPU's
memory; a thread of each rank writes them, that of rank 0 completes the checkpoint.
"""

import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vitok.config import Resources, Training
from vitok.config.overrides import flatten
from vitok.errors import VitokError
from vitok.storage import mirror
from vitok.train.checkpoint.format import Saved, damage, load, write
from vitok.train.checkpoint.store import open_store
from vitok.train.ranks import Place, all_gather, broadcast

CLOSING = 30.0  # seconds for what is being written when a run ends early; ranks may be gone then


class Checkpointed(Protocol):
    """An engine, as far as a checkpoint needs it."""

    name: str

    @property
    def parts(self) -> Sequence[Any]:
        """The elements of parameters that this rank keeps: see `engine.zero_shards`."""
        ...

    def kept(self) -> dict[str, list[Tensor]]:
        """Return this rank's tensors by kind, one for every part."""
        ...

    @property
    def updates(self) -> int:
        """Steps that have changed the weights."""
        ...


class Checkpoints:
    """The checkpoints of one run. Every rank has one of these, and calls its methods when the others do."""

    def __init__(
        self, folder: Path, place: Place, recipe: Training, resources: Resources, before: Callable[[], None], say: Callable[[str], None]
    ) -> None:
        """Open the checkpoints in `folder`. On rank 0, `before` is called before a checkpoint is complete, and `say` with what a user
        must know."""
        self.folder, self.place, self.recipe, self.resources = folder, place, recipe, resources
        self.before, self.say = before, say
        self.writer: threading.Thread | None = None
        self.error: Exception | None = None  # of the writer, other than a disk's
        self.memory: dict[str, Tensor] = {}  # what is being written, reused from one checkpoint to the next
        self.shelf = open_store(folder, place.rank)
        if place.rank == 0:
            self.shelf.clear()
        self.attempt = broadcast(uuid.uuid4().hex[:8], place)  # a process that was taken for dead writes elsewhere

    def newest(self) -> Saved | None:
        """Return the newest whole checkpoint; None where there is none. A damaged one is put aside, loudly, and the one before is taken.

        Raises `VitokError` if it was written with another recipe, or if all are damaged.
        """
        self.finish()
        steps = broadcast(self.shelf.steps(), self.place)
        for step in reversed(steps):
            path = self.shelf.opened(step)
            try:
                saved, problem = load(path), None
                names = sorted(saved.state["files"])[self.place.rank :: self.place.world]
                problem = damage(saved, names)
            except ValueError as error:
                saved, problem = None, str(error)
            problem = next((found for found in all_gather(problem, self.place) if found), None)
            if saved and not problem:
                self._same_recipe(saved)
                return saved
            if self.place.rank == 0:
                self.say(f"checkpoint of step {step} is damaged ({problem}): put aside as {self.shelf.aside(step, self.attempt)}")
        if steps:
            raise VitokError(f"all checkpoints in {mirror.address_of(self.folder)} are damaged; delete the folder to begin again")
        return None

    def save(self, engines: Sequence[Checkpointed], step: int, state: dict[str, Any]) -> None:
        """Save the state after `step` steps. Returns when the tensors are copied; the disk follows."""
        self.finish()
        kept = {
            f"{engine.name}/{kind}/{part.name}@{part.start}": tensor
            for engine in engines
            for kind, tensors in engine.kept().items()
            for part, tensor in zip(engine.parts, tensors, strict=True)
        }
        for name, tensor in kept.items():
            if name not in self.memory:
                self.memory[name] = torch.empty(tensor.shape, pin_memory=tensor.device.type == "cuda")
            self.memory[name].copy_(tensor, non_blocking=True)
        if self.place.device.type == "cuda":
            torch.cuda.synchronize()
        state |= {
            "step": step, "world": self.place.world, "zero": self.resources.zero, "updates": {e.name: e.updates for e in engines},
            "recipe": self.recipe.model_dump(mode="json"),
        }  # fmt: skip
        self.writer = threading.Thread(target=self._write, args=(step, state), name="checkpoint", daemon=True)
        self.writer.start()

    def finish(self) -> None:
        """Wait for what is being written. Raises what ended the writer, unless it was the disk."""
        if self.writer:
            self.writer.join()
            self.writer = None
        if self.error:
            error, self.error = self.error, None
            raise error

    def close(self) -> None:
        """Wait a while for what is nearly written, however the run ends."""
        if self.writer:
            self.writer.join(timeout=CLOSING)

    def _write(self, step: int, state: dict[str, Any]) -> None:
        shelf, attempt = self.shelf, self.attempt
        try:
            own = shelf.begin(step, attempt)
            sha256 = write(own, self.memory)
            shelf.hand_in(step, attempt, {"sha256": sha256, "bytes": own.stat().st_size})
            if self.place.rank == 0:
                files = dict(shelf.entry(step, attempt, rank) for rank in range(self.place.world))
                self.before()
                shelf.complete(step, attempt, state | {"files": files})
                self._retire(state["best"] and state["best"][0])
        except OSError as error:
            if self.place.rank:
                shelf.give_up(step, attempt, str(error))
                return
            shelf.discard(step, attempt)
            good = shelf.steps()
            self.say(
                f"checkpoint of step {step} could not be written: {error}. Training goes on; "
                + (f"the last good one is of step {good[-1]}" if good else "there is none yet")
            )
        except Exception as error:  # a thread would end without a word
            self.error = error

    def _retire(self, best: int | None) -> None:
        """Remove what is not among the newest, the best, or those kept for good."""
        every = self.resources.keep_every
        for step in self.shelf.steps()[: -self.resources.keep]:
            if step != best and not (every and step % every == 0):
                self.shelf.retire(step)

    def _same_recipe(self, saved: Saved) -> None:
        theirs, ours = flatten(saved.state["recipe"]), flatten(self.recipe.model_dump(mode="json"))
        differing = [
            f"{key}: {theirs.get(key)!r} there, {ours.get(key)!r} here" for key in theirs | ours if theirs.get(key) != ours.get(key)
        ]
        if differing:
            raise VitokError(f"{saved.path} was written with another recipe ({'; '.join(differing)}): use the same, or another folder")
