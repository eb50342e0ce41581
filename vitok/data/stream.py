"""Ray Data -> batches. Sample i of a run is a function of (seed, i) alone.

So the order needs no state: a resumed run asks for the batches from its step on, and any number of workers cut the same
global batches between them. A photograph that cannot be decoded is replaced by the next one of the order, and counted.

Two ways, one content: `pool` crops decoded once, kept in Ray's object store and shared by all trials on a node; or,
with `pool = 0`, a fresh crop for every sample, decoded as training goes.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray.data
from PIL import Image
from ray.data import DataContext, Dataset

from vitok.config import Data
from vitok.data.corpora import Corpus
from vitok.data.decode import RejectedError, center_crop, load, random_crop
from vitok.errors import VitokError

DEAD = "nothing to decode"  # first line of the reasons of a sample for which every candidate failed
BLOCKS = 4096  # batches that one streaming plan lays out at a time


@dataclass(frozen=True)
class Batch:
    images: np.ndarray  # (B, H, W, 3) uint8
    rejected: frozenset[str]  # "name: reason" of every file that had to be replaced or left out


@dataclass(frozen=True)
class Source:
    """All samples of one corpus at one size. Goes to every trial; the blocks stay in the object store."""

    corpus: Corpus
    data: Data
    size: int
    pool: Dataset | None
    validation: Dataset
    rejected: frozenset[str]  # known so far

    def batches(self, *, seed: int, batch_size: int, start: int, steps: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The training batches of steps start .. steps - 1; this rank's share, batch_size / world samples, of each."""
        make = self._pooled if self.pool is not None else self._fresh
        return make(seed, batch_size, start, steps, slice(rank * batch_size // world, (rank + 1) * batch_size // world))

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
                    yield Batch(_columns(batch)["image"][share], frozenset())

    def _fresh(self, seed: int, batch_size: int, start: int, steps: int, share: slice) -> Iterator[Batch]:
        local = share.stop - share.start
        for first in range(start, steps, BLOCKS):
            last = min(first + BLOCKS, steps)

            def crops(rows: Any, first: int = first) -> Any:
                step, place = np.divmod(rows["id"], local)
                return self._crops((first + step) * batch_size + share.start + place, seed)

            plan = ray.data.range((last - first) * local, override_num_blocks=last - first).map_batches(crops, batch_size=local)
            for batch in plan.iter_batches(batch_size=local, prefetch_batches=4):
                columns = _columns(batch)
                _refuse_dead(self.corpus, columns["rejected"])
                yield Batch(columns["image"], _reasons(columns))

    def _crops(self, samples: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        rows = [_training_crop(self.corpus, self.data, self.size, seed, int(i)) for i in samples]
        return {"image": np.stack([image for image, _ in rows]), "rejected": np.array([why for _, why in rows], dtype=object)}

    def validation_batches(self, batch_size: int) -> Iterator[Batch]:
        """Every held-out view once, in order; the last batch may be short."""
        for batch in self.validation.iter_batches(batch_size=batch_size, prefetch_batches=1):
            columns = _columns(batch)
            yield Batch(columns["image"][columns["rejected"] == ""], _reasons(columns))


def prepare(corpus: Corpus, data: Data, size: int) -> Source:
    """Lay out the samples of a corpus; with a pool, decode it now, on all of Ray's CPUs. Needs a connected Ray.

    Raises `VitokError` where not one photograph of the training split can be decoded.
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # a study shows its own progress, and its errors once
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    views = len(corpus.validation) * data.validation_crops
    validation = ray.data.range(views, override_num_blocks=max(1, views // 64)).map_batches(
        lambda rows: _validation_views(corpus, data, size, _columns(rows)["id"]), batch_size=None
    )
    if not data.pool:
        return Source(corpus, data, size, None, validation, frozenset())
    source = Source(corpus, data, size, None, validation, frozenset())
    pool = ray.data.range(data.pool, override_num_blocks=max(1, data.pool // 512)).map_batches(
        lambda rows: source._crops(_columns(rows)["id"], 0), batch_size=None
    )
    pool, validation = pool.materialize(), validation.materialize()
    reasons = [row["rejected"] for part in (pool, validation) for row in part.select_columns("rejected").take_all()]
    _refuse_dead(corpus, np.array(reasons))
    return Source(corpus, data, size, pool, validation, frozenset("\n".join(reasons).split("\n")) - {""})


def _training_crop(corpus: Corpus, data: Data, size: int, seed: int, sample: int) -> tuple[np.ndarray, str]:
    epoch, place = divmod(sample, len(corpus.train))
    order = _order(len(corpus.train), seed, epoch)
    rejected: list[str] = []
    for candidate in range(min(100, len(order))):
        name = corpus.train[order[(place + candidate) % len(order)]]
        try:
            image = _load(corpus, name, size)
        except RejectedError as reason:
            rejected.append(f"{name}: {reason}")
            continue
        crop = random_crop(image, size, data.smallest_crop, np.random.default_rng([seed, sample]))
        return crop, "\n".join(rejected)
    return np.zeros((size, size, 3), np.uint8), "\n".join([DEAD, *rejected])


def _validation_views(corpus: Corpus, data: Data, size: int, views: np.ndarray) -> dict[str, np.ndarray]:
    images, rejected = np.zeros((len(views), size, size, 3), np.uint8), np.full(len(views), "", dtype=object)
    for row, view in enumerate(views):
        name = corpus.validation[int(view) // data.validation_crops]
        try:
            image = _load(corpus, name, size)
        except RejectedError as reason:
            rejected[row] = f"{name}: {reason}"
            continue
        single = data.validation_crops == 1
        rng = np.random.default_rng([0, int(view)])
        images[row] = center_crop(image, size) if single else random_crop(image, size, data.smallest_crop, rng)
    return {"image": images, "rejected": rejected}


@lru_cache(maxsize=16)
def _load(corpus: Corpus, name: str, size: int) -> Image.Image:
    # 2 x size: a JPEG decoded at a reduced scale keeps enough pixels for a crop of half the short side.
    return load(corpus.path(name), 2 * size)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _columns(batch: Any) -> dict[str, np.ndarray]:
    """Ray Data types a batch as any of its formats; ours are always numpy."""
    return batch


def _refuse_dead(corpus: Corpus, reasons: np.ndarray) -> None:
    """Raised where the rows are read: an exception inside a task would come back wrapped, and logged twice, by Ray."""
    for cell in map(str, reasons):
        if cell.startswith(DEAD):
            tried = cell.split("\n")[1:]
            raise VitokError(f"corpus {corpus.uri!r}: none of {len(tried)} photographs could be decoded; the first: {tried[0]}")


def _reasons(batch: dict[str, np.ndarray]) -> frozenset[str]:
    return frozenset(why for cell in batch["rejected"] for why in str(cell).split("\n") if why)
