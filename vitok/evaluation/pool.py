"""An evaluation by a pool of actors: Ray Data's tasks decode, the actors reconstruct (or draw) and measure, this process counts.

Blocks come in the order of the views, each once however often an actor died under it, so that the result does not depend on
how many actors there were. What has been counted is kept every now and then: the same call goes on from there.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from ray.data import ActorPoolStrategy
from torch import Tensor

from vitok import runtime
from vitok.data.loading import blocks as tasks
from vitok.data.loading.loader import RejectedSamples, columns, reasons
from vitok.data.loading.reader import Reader
from vitok.data.sample import Rejection
from vitok.errors import VitokError
from vitok.evaluation import accumulator
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator
from vitok.evaluation.evaluation import Examples
from vitok.evaluation.generator import Generator
from vitok.evaluation.measure import CODER_VALUE, Columns, Measurer, require_frames
from vitok.evaluation.subject import Subject
from vitok.losses import to_pixels
from vitok.metrics.psnr_ssim import to_uint8
from vitok.metrics.registry import Metric
from vitok.networks.sources import Payload

DECODING = 0.25  # CPUs of a decode task: its work is a twentieth of what a network's on a CPU is
FEWEST = 16  # views of a block, if so many are taken at once: for fewer the seconds in which an actor starts are not worth it
KEPT_EVERY, KEPT_SHARE = 30.0, 0.05  # seconds between two records of what was counted, and the share of the time they may take


@dataclass(frozen=True)
class EvaluationPass:
    """One pass over views: what is measured, and through which networks. Without a subject the samples are measured as they are: as
    reconstructions of nothing (`generated`), or as a reference."""

    reader: Reader
    numbers: np.ndarray  # of the reader's views
    subject: Subject | None
    metrics: tuple[Metric, ...]
    payloads: dict[str, Payload]
    both: bool  # features of the originals too
    generated: bool
    outputs: int  # views that are measured, and of their reference, where it is other samples; 0: these
    references: int
    batch: int
    actors: int
    gpus: int  # of each actor, 0 or 1
    threads: int  # of each actor, without a GPU
    drawn: Generator | None = None  # draws the samples with these numbers; nothing is read then

    @property
    def sizes(self) -> EvaluationSizes:
        """The sizes of its accumulator."""
        views = len(self.numbers)
        return EvaluationSizes(views, self.reader.frames, self.outputs or views, self.references or views)


@dataclass
class PassResult:
    """What a pass has counted so far."""

    tally: MetricAccumulator
    examples: Examples
    rejected: RejectedSamples
    done: int = 0  # views, from the first on
    started: int = 0  # at which this call went on


class Evaluator:
    """The actor: the subject and all networks, on one device."""

    def __init__(self, reference: Any) -> None:
        asked: EvaluationPass = ray.get(reference)
        self.asked, self.device = asked, runtime.device(asked.gpus, asked.threads)
        self.problem = ""
        try:
            self.coder = asked.subject.open(self.device) if asked.subject else None
            self.draw = asked.drawn.open(self.device) if asked.drawn else None
            self.measurer = Measurer(asked.metrics, asked.payloads, self.device, asked.both, self._name)
        except VitokError as error:
            self.problem = str(error)

    def __call__(self, block: Columns) -> Columns:
        """A row a view. What a user must be told goes as a row too: an exception of a task comes back wrapped and logged twice."""
        try:
            return self._failed(self.problem) if self.problem else self._measured(block)
        except VitokError as error:
            return self._failed(str(error))

    def _name(self, number: int) -> str:
        return f"sample {number}" if self.draw else self.asked.reader.name(int(self.asked.numbers[number]))

    def _failed(self, reason: str) -> Columns:
        return {"error": np.array([reason], dtype=object)}

    def _measured(self, block: Columns) -> Columns:
        ok = block["ok"].astype(bool)
        numbers = block["number"][ok]
        found: Columns = {"number": block["number"], "ok": ok, "rejected": block["rejected"]}
        if not len(numbers):
            return found
        originals, outputs, values = self._drawn(numbers) if self.draw else self._read(block["image"][ok])
        measured = self.measurer(numbers, originals, outputs) | {
            f"{CODER_VALUE}{name}": value.cpu().numpy() for name, value in values.items()
        }
        found |= {name: _spread(column, ok) for name, column in measured.items()}
        if outputs is not None:
            examples = Examples(len(self.asked.numbers))
            examples.add(numbers, originals, outputs)
            found["example"] = np.array([_packed(examples, number) for number in block["number"].tolist()], dtype=object)
        return found

    def _drawn(self, numbers: np.ndarray) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Draw samples by their numbers. Return (originals, uint8: a drawn sample has none but itself; outputs, float; values that the
        subject tells of each)."""
        assert self.draw and self.asked.drawn
        outputs = self.draw(numbers, self.asked.drawn.about.labels(numbers))
        return to_uint8(outputs), outputs, {}

    def _read(self, pictures: np.ndarray) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Reconstruct samples that were read. Return the same three; outputs are None where the samples are measured as they are."""
        images = torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device)
        originals = images.movedim(-1, 1)
        if not self.coder:
            return originals, to_pixels(images) if self.asked.generated else None, {}
        with torch.inference_mode():
            outputs, values = self.coder(to_pixels(images))
        return originals, outputs, values


def run(asked: EvaluationPass, kept: Path | None, progress: Callable[[int, int, int], None]) -> PassResult:
    """Everything once. `kept`: where what was counted is recorded, and gone on from; it stays, for who makes something of the result to
    remove. `progress` hears of (views done, of all, of them in this call). Needs a connected Ray. Raises `VitokError`."""
    require_frames(asked.metrics, asked.reader.frames)
    counted = _begin(asked, kept)
    last, cost = time.monotonic(), 0.0
    for block in _blocks(asked, counted.done):
        if "error" in block:
            raise VitokError(str(block["error"][0]))
        _count(asked, counted, block)
        progress(counted.done, len(asked.numbers), counted.done - counted.started)
        now = time.monotonic()
        if kept and now - last > max(KEPT_EVERY, cost / KEPT_SHARE):
            _keep(asked, counted, kept)
            last = time.monotonic()
            cost = last - now
    if counted.done != len(asked.numbers):
        raise VitokError(f"only {counted.done} of {len(asked.numbers)} views came back: see Ray's logs; run again to continue")
    if kept and counted.started < counted.done:
        _keep(asked, counted, kept)
    return counted


def _blocks(asked: EvaluationPass, first: int) -> Iterator[Columns]:
    """Measured blocks of the views from `first` on, in order."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    total = len(asked.numbers)
    if first == total:
        return
    each = min(asked.batch, max(FEWEST, -(-(total - first) // asked.actors)))
    count = -(-(total - first) // each)
    make = _drawn(first, each, total) if asked.drawn else _decoded(asked.reader, asked.numbers, first, each)
    blocks = tasks.dataset(make, count, cpus=DECODING)
    blocks.context.op_resource_reservation_enabled = True  # decoding must leave the actors their share of the store
    measured = blocks.map_batches(
        Evaluator, fn_constructor_args=(ray.put(asked),), batch_size=None, batch_format="numpy", zero_copy_batch=True,
        compute=ActorPoolStrategy(size=min(asked.actors, count)), num_gpus=asked.gpus or None,
        num_cpus=1 if asked.gpus else asked.threads - DECODING,
    )  # fmt: skip
    found: Any = measured.iter_batches(batch_size=None, prefetch_batches=1, batch_format="numpy")
    yield from found


def _decoded(reader: Reader, numbers: np.ndarray, first: int, each: int) -> tasks.Make:
    """Functions of their own, which hold nothing of this module: it would bring torch into every process that decodes."""

    def make(block: int) -> tasks.Columns:
        begin, end = first + block * each, min(first + (block + 1) * each, len(numbers))
        return columns(reader.views(numbers[begin:end].tolist()), reader) | {"number": np.arange(begin, end)}

    return make


def _drawn(first: int, each: int, total: int) -> tasks.Make:
    """Nothing is decoded where samples are drawn."""

    def make(block: int) -> tasks.Columns:
        numbers = np.arange(first + block * each, min(first + (block + 1) * each, total))
        return {"number": numbers, "ok": np.ones(len(numbers), bool), "rejected": np.full(len(numbers), "[]", dtype=object)}

    return make


def _count(asked: EvaluationPass, counted: PassResult, block: Columns) -> None:
    numbers, ok = block["number"], block["ok"].astype(bool)
    if numbers[0] != counted.done or not np.array_equal(numbers, np.arange(counted.done, counted.done + len(numbers))):
        raise VitokError(f"views {numbers[0]} to {numbers[-1]} came where view {counted.done} was due")
    rejected = frozenset(rejection for cell in block["rejected"] for rejection in reasons(cell))
    counted.rejected.add(rejected, len(numbers), len(asked.numbers))
    if ok.any():
        counted.tally.add(numbers[ok], {name: column[ok] for name, column in block.items()})
        for number, packed in zip(numbers[ok].tolist(), block.get("example", [])[ok] if "example" in block else (), strict=False):
            if packed:
                counted.examples.kept[number] = _unpacked(packed, asked.reader.size)
    counted.done += len(numbers)


def _begin(asked: EvaluationPass, kept: Path | None) -> PassResult:
    counted = PassResult(
        MetricAccumulator(asked.metrics, asked.sizes), Examples(len(asked.numbers)), RejectedSamples(asked.reader.data.max_rejected)
    )
    if kept and (found := accumulator.read_counts(kept)):
        state, arrays = found
        if asked.both and not state["both"]:  # the reference's statistics were at hand then, and are no more
            return counted
        for number in state["examples"]:
            counted.examples.kept[number] = _unpacked(arrays.pop(f"example:{number}").tobytes(), asked.reader.size)
        counted.tally.load(arrays)
        counted.rejected.add(frozenset(Rejection(*parts) for parts in state["rejected"]), state["done"], len(asked.numbers))
        counted.done = counted.started = state["done"]
    return counted


def _keep(asked: EvaluationPass, counted: PassResult, kept: Path) -> None:
    arrays = counted.tally.state()
    rejected = [[one.name, one.reason, one.detail] for one in counted.rejected.found.values()]
    for number, pair in counted.examples.kept.items():
        arrays[f"example:{number}"] = torch.stack(pair).numpy()
    state = {"done": counted.done, "both": asked.both, "rejected": rejected, "examples": list(counted.examples.kept)}
    accumulator.keep_counts(kept, state, arrays)


def _spread(column: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Rows of the good samples among those of all."""
    if ok.all():
        return column
    spread = np.zeros((len(ok), *column.shape[1:]), column.dtype)
    spread[ok] = column
    return spread


def _packed(examples: Examples, number: int) -> bytes:
    return torch.stack(examples.kept[number]).numpy().tobytes() if number in examples.kept else b""


def _unpacked(data: bytes, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    pair = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(2, 3, size, size)
    return pair[0], pair[1]
