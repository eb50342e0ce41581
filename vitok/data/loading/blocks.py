"""Blocks of numpy columns made by Ray Data tasks, read in order, never far ahead of the reader.

Each block is one read task of a Datasource of our own: a map over `ray.data.range` takes two tasks a block, of which the first makes a
list of numbers and holds a CPU for it. Ray Data's reservation of resources is off, because for a lone operator it left one of two CPUs
idle (200 images a second instead of 490). Short plans (one execution of a dataset each) bound the memory of the object store instead;
the next plan begins shortly before the current one ends.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data import DataContext, Dataset, Datasource
from ray.data.block import Block, BlockAccessor, BlockMetadata
from ray.data.datasource import ReadTask

from vitok.config.resources import DECODE
from vitok.runtime import keep_freed_memory

Columns = dict[str, np.ndarray]
Make = Callable[[int], Columns]
STORE_SHARE = 8  # a plan's blocks fill at most this part of the object stores; two plans are under way at most
FEWEST, WAVES = 4, 20  # blocks of a plan; at most so many for each CPU
FETCHED = 2  # blocks brought to this node before they are asked for
# Bytes that a decoding process keeps when freed, for the next image: to give them back and ask anew is 50 page faults an image, 3 %
# of the time of its decode.
KEPT, LARGEST = 128 << 20, 32 << 20
_apart = False  # whether decoding is for nodes of its own


class _Blocks(Datasource):
    def __init__(self, make: Any, numbers: range) -> None:
        self.make, self.numbers = make, numbers

    def estimate_inmemory_data_size(self) -> int | None:
        """Return nothing: Ray measures blocks as they come."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """Return the tasks that make the blocks."""
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(_Read(self.make, number), unknown) for number in self.numbers]


class _Read:
    def __init__(self, make: Any, number: int) -> None:
        self.make, self.number = make, number

    def __call__(self) -> Iterable[Block]:
        keep_freed_memory(KEPT, LARGEST)
        yield BlockAccessor.batch_to_block(_made(self.make)(self.number))


def decode_on(nodes: str) -> None:
    """Set where the decode tasks of this process run from now on: "anywhere", or on "cpu-nodes", the nodes that offer the resource
    `decode`."""
    global _apart
    _apart = nodes == "cpu-nodes"


def dataset(make: Make, count: int, cpus: float = 1) -> Dataset:
    """Return the Ray dataset of the blocks make(0) .. make(count - 1), each made by one task that holds `cpus` CPUs."""
    return _plan(ray.put(make), range(count), cpus)


def stream(make: Make, count: int, block_bytes: int, streams: int = 1) -> Iterator[Columns]:
    """Yield the blocks make(0) .. make(count - 1) in order. `block_bytes` is the approximate size of one; `streams` streams (ranks)
    share the cluster."""
    with ThreadPoolExecutor(1) as fetch:
        blocks = _planned(ray.put(make), count, plan_length(block_bytes, streams), _cpus(streams))
        coming = deque(fetch.submit(next, blocks, None) for _ in range(FETCHED))
        try:
            while (block := coming.popleft().result()) is not None:
                coming.append(fetch.submit(next, blocks, None))
                yield block
        finally:
            for future in coming:
                future.cancel()


def plan_length(block_bytes: int, streams: int) -> int:
    """Return the number of blocks of one plan, so that its blocks fit into this stream's share of the object stores."""
    return max(FEWEST, min(int(_store(streams) / block_bytes), WAVES * _cpus(streams)))


def largest_block(streams: int) -> int:
    """Return the most bytes that a block may have for a plan to hold `FEWEST` of them."""
    return int(_store(streams) / FEWEST)


def _store(streams: int) -> float:
    return ray.cluster_resources().get("object_store_memory", 0) / STORE_SHARE / streams


def _cpus(streams: int) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 0) / streams))


def _planned(reference: Any, count: int, each: int, last: int) -> Iterator[Columns]:
    """Yield the blocks of all plans in order. The next plan begins when the `last` blocks of the current one are being made: begun
    earlier, it kept its CPUs from the tasks that waited."""
    plans = [range(first, min(first + each, count)) for first in range(0, count, each)]
    with ThreadPoolExecutor(1) as beginner:  # it waits for actors of Ray Data's
        begun = beginner.submit(_begun, reference, plans[0]) if plans else None
        for index, numbers in enumerate(plans):
            assert begun is not None
            blocks, begun = begun.result(), None
            for done, block in enumerate(blocks):
                if begun is None and index + 1 < len(plans) and len(numbers) - done - 1 <= last:
                    begun = beginner.submit(_begun, reference, plans[index + 1])
                yield block


def _begun(reference: Any, numbers: range) -> Iterator[Columns]:
    """Return the blocks of a plan, once the first of them is there. A plan that is closed early kills its workers, which Ray survives;
    interrupting them (as `iter_internal_ref_bundles` does) lost a task of the next plan, and that plan waited for ever."""
    blocks: Any = iter(_plan(reference, numbers).iter_batches(batch_size=None, prefetch_batches=0))
    return chain([next(blocks)], blocks)


def _plan(reference: Any, numbers: range, cpus: float = 1) -> Dataset:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.op_resource_reservation_enabled = False
    context.target_max_block_size = None  # a block is what a task made, never cut
    there: dict[str, float] | None = {DECODE: cpus} if _apart else None
    return ray.data.read_datasource(_Blocks(reference, numbers), override_num_blocks=len(numbers), num_cpus=cpus, resources=there)


@lru_cache(maxsize=16)
def _made(reference: Any) -> Make:
    return ray.get(reference)
