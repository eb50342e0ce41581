"""Training and validation batches from Ray Data, uint8 until they are on the device.

Two modes. `pool` > 0: that many crops are decoded once, kept in Ray's object store and shared by all trials. `pool` = 0: a fresh crop
for every sample, decoded by Ray Data during training on whatever CPUs there are.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import ray
from ray.data import Dataset

from vitok.config import Data
from vitok.data.corpora.corpus import Corpora
from vitok.data.loading import blocks
from vitok.data.loading.reader import Decoded, Reader
from vitok.data.sample import Rejection
from vitok.errors import VitokError
from vitok.storage import filesystem

if TYPE_CHECKING:
    from torch import Tensor

IMAGES, CLIPS = 128, 16  # about so many are decoded by one task, half a second's work and a second's: between tasks a worker waits 16 ms
Part = Literal["train", "validation", "all"]
PARTS: tuple[Part, Part] = ("train", "validation")
FULL = 0.8  # of the object stores: what decoded samples may fill
FORGIVEN = 10  # unusable samples that stop no run, however small the corpus


@dataclass(frozen=True)
class Batch:
    """A batch of decoded samples on the host."""

    images: np.ndarray  # (B, H, W, 3) or, of several frames, (B, T, H, W, 3) uint8
    rejected: frozenset[Rejection]  # every sample that had to be replaced or left out
    labels: np.ndarray | None = None  # (B,) int32, -1 where there is none
    numbers: np.ndarray | None = None  # (B,) of held-out views

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that a training step uses: images and labels (empty where there are none)."""
        return {"images": self.images, "labels": np.array([]) if self.labels is None else self.labels}

    def tensor(self) -> "Tensor":
        """Return the images as a uint8 tensor, copied where they lie in Ray's object store, which is read-only."""
        import torch

        return torch.from_numpy(self.images if self.images.flags.writeable else self.images.copy())


class RejectedSamples:
    """Count unusable samples, each once, and stop the run above a share of `limit`. `known` are samples that were accepted before the
    run began."""

    def __init__(self, limit: float, known: frozenset[Rejection] = frozenset()) -> None:
        self.limit, self.drawn = limit, 0
        self.accepted = {rejection.name for rejection in known}
        self.found: dict[str, Rejection] = {rejection.name: rejection for rejection in known}

    def add(self, rejected: frozenset[Rejection], drawn: int, whole: int) -> None:
        """Add the samples rejected among `drawn` more samples of a corpus of `whole`. Raise `VitokError` where more than `limit` of the
        samples tried, and more than `FORGIVEN`, are unusable."""
        self.drawn += drawn
        self.found |= {rejection.name: rejection for rejection in rejected}
        new = [one for name, one in self.found.items() if name not in self.accepted]
        tried = min(self.drawn + len(new), whole)
        if len(new) > max(FORGIVEN, self.limit * tried):
            worst = "; ".join(f"{count} {reason}" for reason, count in Counter(one.reason for one in new).most_common(5))
            raise VitokError(
                f"{len(new)} of {tried} samples cannot be used ({worst}; the first: {new[0]}); "
                f"data.max_rejected = {self.limit:g} allows a share of {self.limit:.0%}"
            )

    def reasons(self) -> Counter[str]:
        """Return the number of rejected samples for each reason."""
        return Counter(rejection.reason for rejection in self.found.values())


@dataclass(frozen=True)
class Source:
    """The pixel data of a run at one resolution. Sent to every trial; the splits and the pooled blocks stay in Ray's object store."""

    uri: str
    fingerprint: str
    data: Data
    size: int
    frames: int
    training: Reader
    held_out: Reader
    pool: Dataset | None
    validation: Dataset | None  # decoded; None: as it is asked for
    rejected: frozenset[Rejection]  # known so far

    @property
    def max_rejected(self) -> float:
        """The share of unusable samples that a run accepts."""
        return self.data.max_rejected

    @property
    def count(self) -> int:
        """The number of training samples."""
        return sum(self.training.counts)

    @property
    def views(self) -> int:
        """The number of held-out views, which an evaluation measures."""
        return self.held_out.total

    def batches(self, *, seed: int, batch_size: int, start: int, steps: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield the training batches of steps `start` .. `steps` - 1; of each, this rank's share of batch_size / world samples."""
        make = self._pooled if self.pool is not None else self._fresh
        return make(seed, batch_size, start, steps, slice(rank * batch_size // world, (rank + 1) * batch_size // world))

    def validation_batches(self, batch_size: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield every held-out view once, in order, divided over the ranks: batch b belongs to rank b % world. The last batch may be
        short."""
        if self.validation is not None:
            for number, batch in enumerate(self.validation.iter_batches(batch_size=batch_size, prefetch_batches=1)):
                if number % world == rank:
                    yield _batch(batch, number * batch_size)
            return
        mine, views = range(rank, -(-self.views // batch_size), world), self.views

        def rows(number: int) -> range:
            return range(mine[number] * batch_size, min((mine[number] + 1) * batch_size, views))

        yield from _batches(self.held_out.views, rows, len(mine), self.held_out, world, numbered=True)

    def _pooled(self, seed: int, batch_size: int, start: int, steps: int, share: slice) -> Iterator[Batch]:
        assert self.pool is not None
        per_epoch = max(1, self.data.pool // batch_size)
        for step in range(start - start % per_epoch, steps, per_epoch):
            epoch = self.pool.iter_batches(
                batch_size=min(batch_size, self.data.pool), drop_last=True, prefetch_batches=0,
                local_shuffle_buffer_size=self.data.pool, local_shuffle_seed=_seed(seed, step // per_epoch),
            )  # fmt: skip
            for offset, batch in enumerate(epoch):
                if start <= step + offset < steps:
                    found: Any = batch
                    yield Batch(found["image"][share], frozenset(), found["label"][share])

    def _fresh(self, seed: int, batch_size: int, start: int, steps: int, share: slice) -> Iterator[Batch]:
        local = share.stop - share.start

        def rows(number: int) -> range:
            first = (start + number) * batch_size + share.start
            return range(first, first + local)

        for batch in _batches(partial(self.training.training, seed=seed), rows, steps - start, self.training, batch_size // local):
            if len(batch.images) < local:
                raise self._dead(batch.rejected)
            yield batch

    def _dead(self, rejected: frozenset[Rejection]) -> VitokError:
        """Return the error of a corpus without one decodable sample, for the caller to raise: raised inside a task, Ray would wrap it
        and log it twice."""
        first = min(rejected, key=str)
        return VitokError(f"corpus {self.uri!r}: none of {len(rejected)} samples could be decoded; the first: {first}")


def prepare_source(corpora: Corpora, data: Data, size: int, frames: int = 1) -> Source:
    """Return the source of a run from its corpora; with a pool, decode the pool now, on all of Ray's CPUs. Needs a connected Ray.

    Raise `VitokError` where no sample of the training split can be decoded, too many are unusable, or the pool does not fit the object
    stores.
    """
    training, held_out = (open_reader(corpora, part, data, size, frames) for part in PARTS)
    source = Source(corpora.uri, corpora.fingerprint, data, size, frames, training, held_out, None, None, frozenset(corpora.rejected))
    count = sum(corpora.counts)
    RejectedSamples(data.max_rejected).add(source.rejected, count, count + len(source.rejected))
    if not data.pool:
        return source
    _must_fit(data.pool * math.prod(training.shape) + source.views * math.prod(held_out.shape), data.pool)
    crops, views = _runs(data.pool, 512), _runs(source.views, 64)
    pool = blocks.dataset(lambda n: columns(training.training(crops[n], 0), training), len(crops))
    validation = blocks.dataset(lambda n: columns(held_out.views(views[n]), held_out), len(views))
    pool, validation = pool.materialize(), validation.materialize()
    rows = [row for part in (pool, validation) for row in part.select_columns(["ok", "rejected"]).take_all()]
    rejected = frozenset(rejection for row in rows for rejection in reasons(row["rejected"]))
    if not all(row["ok"] for row in rows[: data.pool]):
        raise source._dead(rejected)
    RejectedSamples(data.max_rejected, source.rejected).add(rejected, data.pool, count)
    return Source(corpora.uri, corpora.fingerprint, data, size, frames, training, held_out, pool, validation, source.rejected | rejected)


def _must_fit(need: int, pool: int) -> None:
    """Raise `VitokError` where the decoded samples would fill the object stores: Ray would write them to disk and read them again,
    without end."""
    room = ray.cluster_resources().get("object_store_memory", 0)
    if need > FULL * room:
        raise VitokError(
            f"data.pool = {pool} samples and the held-out views take {need / 1e9:,.1f} GB decoded, of {room / 1e9:,.1f} GB of Ray's object "
            "stores: lower data.pool (0: decode as training goes), or give Ray more (object_store_memory)"
        )


def open_reader(corpora: Corpora, part: Part, data: Data, size: int, frames: int) -> Reader:
    """Return the reader of one split of all corpora, or of both splits. Puts the splits into Ray's object store: needs a connected Ray."""
    wanted = PARTS if part == "all" else (part,)
    found = [
        (weight, corpus, corpus.train if name == "train" else corpus.validation) for name in wanted for weight, corpus in corpora.parts
    ]
    weights, opened, splits = zip(*found, strict=True)
    return Reader(
        tuple(ray.put(split) for split in splits), tuple(map(len, splits)), tuple(corpus.kind == "video" for corpus in opened),
        weights, data, size, frames, any(filesystem.is_remote(corpus.uri) for corpus in opened),
    )  # fmt: skip


def _batches(
    read: Callable[[Sequence[int]], list[Decoded]],
    rows: Callable[[int], range],
    count: int,
    reader: Reader,
    world: int,
    numbered: bool = False,
) -> Iterator[Batch]:
    """Yield batches 0 .. count - 1, batch b made of the samples in rows(b). One task makes several batches where they are small."""
    if not count:
        return
    batch_bytes = len(rows(0)) * math.prod(reader.shape)
    together = max(1, min((IMAGES if reader.frames == 1 else CLIPS) // len(rows(0)), blocks.largest_block(world) // batch_bytes, count))

    def make(number: int) -> blocks.Columns:
        batches = range(number * together, min((number + 1) * together, count))
        return columns(read([row for batch in batches for row in rows(batch)]), reader)

    for number, block in enumerate(blocks.stream(make, -(-count // together), together * batch_bytes, world)):
        first = 0
        for batch in range(number * together, min((number + 1) * together, count)):
            last = first + len(rows(batch))
            yield _batch({name: column[first:last] for name, column in block.items()}, rows(batch)[0] if numbered else None)
            first = last


def _runs(count: int, about: int) -> list[range]:
    """Return 0 .. count - 1 cut into runs of about `about`, whose lengths differ by one at most."""
    runs = max(1, count // about)
    return [range(count * n // runs, count * (n + 1) // runs) for n in range(runs)]


def columns(decoded: list[Decoded], reader: Reader) -> dict[str, np.ndarray]:
    """Return a block of decoded samples, a row each: image (zeros where it failed), label, ok (whether it was decoded), rejected (JSON)."""
    nothing = np.zeros(reader.shape, np.uint8)
    return {
        "image": np.stack([nothing if one.pixels is None else one.pixels for one in decoded]),
        "label": np.array([one.label for one in decoded], np.int32),
        "ok": np.array([one.pixels is not None for one in decoded]),
        "rejected": np.array([json.dumps([[r.name, r.reason, r.detail] for r in one.rejected]) for one in decoded], dtype=object),
    }


def _batch(found: Any, first: int | None = None) -> Batch:
    """Return a block as a batch, without the rows that could not be decoded. `first` is the number of the block's first view."""
    ok: np.ndarray = found["ok"]
    rejected = frozenset(rejection for cell in found["rejected"] for rejection in reasons(cell))
    images, labels = (found["image"], found["label"]) if ok.all() else (found["image"][ok], found["label"][ok])
    return Batch(images, rejected, labels, None if first is None else first + np.flatnonzero(ok))


def reasons(cell: Any) -> list[Rejection]:
    """Return the rejections in one cell of a block's column `rejected`."""
    return [Rejection(*parts) for parts in json.loads(cell)] if cell != "[]" else []


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
