"""Training batches from cached latents, read within the training process.

Row groups are read in windows that fit the memory: a thread reads the next window while one is consumed; a set of one window is read
once and stays in memory. The order is a function of (seed, epoch) alone, so that any number of ranks cut the same global batches and a
resumed run asks for the batches from its step on.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitok.data.latents.dataset import LatentSet
from vitok.data.loading.order import Order, epoch_order
from vitok.data.sample import Rejection
from vitok.errors import RejectedError, VitokError
from vitok.storage import filesystem

WINDOW_BYTES = 256 << 20  # of latents that are mixed with each other, and in memory; those that are read next come on top
PIECE_BYTES = 8 << 20  # of row groups that one read brings
READS, REMOTE_READS = 2, 16  # at once; of a store, waiting is what takes the time
HALF = np.dtype("<f2")
COLUMNS = ("mean", "log_variance", "label")


@dataclass(frozen=True)
class LatentBatch:
    """A batch of posteriors on the host."""

    mean: np.ndarray  # (B, L, c) float16, of the posterior
    log_variance: np.ndarray
    labels: np.ndarray  # (B,) int32, -1 where there is none
    rejected: frozenset[Rejection] = frozenset()  # none: what could not be decoded is not among the latents

    def __len__(self) -> int:
        return len(self.labels)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that a training step uses: mean, log_variance and labels."""
        return {"mean": self.mean, "log_variance": self.log_variance, "labels": self.labels}


@dataclass(frozen=True)
class LatentSource:
    """The latent data of a run. Sent to every trial; the latents stay where they are stored."""

    set: LatentSet

    @property
    def uri(self) -> str:
        """The URI of the corpus that was encoded."""
        return self.set.uri

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the corpus, 16 hex digits."""
        return self.set.fingerprint

    @property
    def count(self) -> int:
        """The number of training rows: views, times two where mirrored ones are kept."""
        return self.set.rows

    @property
    def rejected(self) -> frozenset[Rejection]:
        """The samples of the corpus that could not be encoded."""
        return frozenset(self.set.rejected)

    @property
    def max_rejected(self) -> float:
        """The share of unusable samples that was accepted when the latents were made. Training finds no more."""
        return self.set.latents.max_rejected

    def batches(self, *, seed: int, batch_size: int, start: int, steps: int, rank: int = 0, world: int = 1) -> Iterator[LatentBatch]:
        """Yield the batches of steps `start` .. `steps` - 1; of each, this rank's share of batch_size / world samples. Raise
        `VitokError` where a shard cannot be read."""
        share = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
        size, shape = share.stop - share.start, (self.set.tokens, self.set.channels)
        windows = self._windows(seed, start * batch_size + share.start, steps * batch_size)
        try:
            window = next(windows) if steps > start else None
            for first in range(start * batch_size + share.start, steps * batch_size, batch_size):
                mean, log_variance = (np.empty((size, *shape), HALF) for _ in range(2))
                labels = np.empty(size, np.int32)
                filled = 0
                while filled < size:
                    assert window is not None
                    epoch, place = divmod(first + filled, self.set.rows)
                    if (epoch, place) >= (window.epoch, window.end):
                        window = next(windows)
                        continue
                    stop = min(size, filled + window.end - place)
                    window.take(place, slice(filled, stop), mean, log_variance, labels)
                    filled = stop
                yield LatentBatch(mean, log_variance, labels)
        finally:
            windows.close()

    def _windows(self, seed: int, first: int, last: int) -> "Generator[_Window, None, None]":
        """Yield the windows of samples `first` .. `last` - 1 of a run in order; one is read ahead."""
        layout = _layout(self.set)
        reads = REMOTE_READS if filesystem.is_remote(self.set.folder) else READS
        with ThreadPoolExecutor(reads) as readers, ThreadPoolExecutor(1) as ahead:
            asked = self._asked(layout, seed, first, last)
            coming = ahead.submit(self._next, asked, None, layout, readers)
            while (window := coming.result()) is not None:
                coming = ahead.submit(self._next, asked, window if layout.window >= len(layout.sizes) else None, layout, readers)
                yield window

    def _asked(self, layout: "_Layout", seed: int, first: int, last: int) -> Iterator[tuple[Order, int]]:
        """Yield (order of the epoch, number of the window) for samples `first` .. `last` - 1 of a run."""
        epoch, place = divmod(first, self.set.rows)
        for number in count(epoch):
            order = epoch_order(self.set.rows, layout.sizes, layout.window, seed, number)
            begin = int(order.ends.searchsorted(place, side="right")) if number == epoch else 0
            for window in range(begin, len(order.ends)):
                if number * self.set.rows + (int(order.ends[window - 1]) if window else 0) >= last:
                    return
                yield order, window

    def _next(self, asked: Iterator[tuple[Order, int]], kept: "_Window | None", layout: "_Layout", readers: Executor) -> "_Window | None":
        found = next(asked, None)
        if found is None:
            return None
        order, number = found
        _, end, units = order.span(number)
        if kept:  # the same groups in another order
            return replace(kept, order=order, end=end)
        return self._read(order, end, np.sort(units), layout, readers)

    def _read(self, order: Order, end: int, units: np.ndarray, layout: "_Layout", readers: Executor) -> "_Window":
        """Read the row groups `units`, in ascending order, into a window."""
        sizes, width = layout.sizes[units], self.set.tokens * self.set.channels
        ends = np.cumsum(sizes)
        starts = np.zeros(len(layout.sizes), np.int64)
        starts[units] = ends - sizes
        total = int(ends[-1])
        window = _Window(order, end, starts, np.empty((total, width), HALF), np.empty((total, width), HALF), np.empty(total, np.int32))
        # Neighbours in one file are read at once, a few megabytes at most.
        bulk = (ends * self.set.row_bytes) // PIECE_BYTES
        cuts = np.flatnonzero((np.diff(layout.files[units]) != 0) | (np.diff(bulk) != 0)) + 1
        list(readers.map(lambda piece: self._piece(piece, int(starts[piece[0]]), layout, window), np.split(units, cuts)))
        return window

    def _piece(self, units: np.ndarray, at: int, layout: "_Layout", window: "_Window") -> None:
        """Read row groups of one file into rows `at` and following of a window. Raise `VitokError` where the file is damaged."""
        uri = filesystem.join(self.set.folder, self.set.shards[int(layout.files[units[0]])][0])
        groups, rows = layout.groups[units].tolist(), int(layout.sizes[units].sum())

        def attempt() -> pa.Table:
            with _opened(uri) as file:
                parquet = pq.ParquetFile(file, metadata=_footer(uri), pre_buffer=filesystem.is_remote(uri))
                return parquet.read_row_groups(groups, columns=list(COLUMNS), use_threads=False)

        try:
            table = filesystem.retried(uri, attempt)
            if table.num_rows != rows:
                raise pa.ArrowInvalid(f"{table.num_rows} rows where the manifest says {rows}")
            _halves(table["mean"], window.mean[at : at + rows])
            _halves(table["log_variance"], window.log_variance[at : at + rows])
        except (pa.ArrowException, RejectedError, IndexError, KeyError, ValueError) as error:
            said = str(error).splitlines()[0]
            raise VitokError(f"latents {uri} cannot be read ({said}): remove {self.set.folder} and encode the corpus again") from None
        window.labels[at : at + rows] = table["label"].to_numpy()


@dataclass(frozen=True, eq=False)
class _Layout:
    """The row groups of a set in the order of its shards, arrays of (U,) each."""

    files: np.ndarray  # number of the shard
    groups: np.ndarray  # within it
    sizes: np.ndarray  # rows
    window: int  # groups of a window


@dataclass(frozen=True, eq=False)
class _Window:
    """A window of row groups in memory."""

    order: Order
    end: int  # place after its last sample
    starts: np.ndarray  # row at which each group of the set begins here
    mean: np.ndarray  # (R, L * c) float16
    log_variance: np.ndarray
    labels: np.ndarray  # (R,)

    @property
    def epoch(self) -> int:
        return self.order.epoch

    def take(self, place: int, to: slice, mean: np.ndarray, log_variance: np.ndarray, labels: np.ndarray) -> None:
        """Copy the samples from a place of the epoch on into the rows `to` of a batch's arrays."""
        units, rows = self.order.rows(np.arange(place, place + to.stop - to.start))
        rows += self.starts[units]
        for source, target in ((self.mean, mean), (self.log_variance, log_variance)):
            # "clip" looks at no index twice, and needs no buffer.
            np.take(source, rows, axis=0, out=target[to].reshape(len(rows), -1), mode="clip")
        np.take(self.labels, rows, out=labels[to], mode="clip")


@lru_cache(maxsize=4)
def _layout(latents: LatentSet) -> _Layout:
    each = latents.group_rows
    counts = np.array([-(-rows // each) for _, rows in latents.shards])
    groups = np.concatenate([np.arange(groups) for groups in counts])
    shards = np.repeat(np.arange(len(counts)), counts)
    sizes = np.minimum(np.array([rows for _, rows in latents.shards])[shards] - groups * each, each)
    return _Layout(shards, groups, sizes, max(1, WINDOW_BYTES // (each * latents.row_bytes)))


def _opened(uri: str) -> Any:
    """Open a file for Arrow; a local one without Python file objects, whose lock would make the threads wait for one another."""
    return filesystem.open_file(uri) if filesystem.is_remote(uri) else pa.OSFile(uri)


@lru_cache(maxsize=512)
def _footer(uri: str) -> pq.FileMetaData:
    with _opened(uri) as file:
        return pq.read_metadata(file)


def _halves(column: pa.ChunkedArray, target: np.ndarray) -> None:
    """Copy a column of fixed-size binary into a float16 array (R, L * c). Raise `pa.ArrowInvalid` where the width is another."""
    width, first = target.shape[1], 0
    if column.type != pa.binary(width * HALF.itemsize):
        raise pa.ArrowInvalid(f"a row is {column.type}, not {width} numbers of two bytes")
    for chunk in column.chunks:
        values = np.frombuffer(chunk.buffers()[1], HALF, len(chunk) * width, chunk.offset * width * HALF.itemsize)
        target[first : first + len(chunk)] = values.reshape(len(chunk), width)
        first += len(chunk)
