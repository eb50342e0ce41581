"""Blocks made by Ray Data tasks, read in order, never far ahead of who reads them.

One task a block: a source of its own, because a map over `range` is two tasks a block, of which the first makes a list of
numbers and holds a CPU for it. Without Ray Data's reservation of resources, which for a lone operator left one of two CPUs
idle (200 images a second instead of 490): what it guards, the memory of the object store, is kept by short plans, the next
one begun shortly before the end of one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import ray
import ray.data
from ray.data import DataContext, Dataset, Datasource
from ray.data.block import Block, BlockAccessor, BlockMetadata
from ray.data.datasource import ReadTask

Columns = dict[str, np.ndarray]
Make = Callable[[int], Columns]
STORE_SHARE = 8  # a plan's blocks fill at most this part of a node's object store; two plans are under way at most
AHEAD = 16  # blocks of a plan that are left when the next one is begun: starting one takes as long as making a few
MOST_BYTES, FEWEST = 1 << 30, 4  # of a plan; blocks of a plan


class _Blocks(Datasource):
    def __init__(self, make: Any, numbers: range) -> None:
        self.make, self.numbers = make, numbers

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(_Read(self.make, number), unknown) for number in self.numbers]


class _Read:
    def __init__(self, make: Any, number: int) -> None:
        self.make, self.number = make, number

    def __call__(self) -> Iterable[Block]:
        yield BlockAccessor.batch_to_block(_made(self.make)(self.number))


def dataset(make: Make, count: int) -> Dataset:
    """The dataset of blocks make(0) .. make(count - 1), columns of numpy arrays, each made by one task."""
    return _plan(ray.put(make), range(count))


def stream(make: Make, count: int, block_bytes: int) -> Iterator[Columns]:
    """make(0) .. make(count - 1) in order. `block_bytes` is about the size of one."""
    reference = ray.put(make)  # once in the object store, not once in every task
    each = plan_length(block_bytes)
    plans = [range(first, min(first + each, count)) for first in range(0, count, each)]
    with ThreadPoolExecutor(1) as ahead:
        begun: Future[Iterator[Columns]] | None = None
        for index, numbers in enumerate(plans):
            blocks = begun.result() if begun else _begun(reference, numbers)
            begun = None
            for done, block in enumerate(blocks):
                if begun is None and index + 1 < len(plans) and len(numbers) - done <= AHEAD:
                    begun = ahead.submit(_begun, reference, plans[index + 1])
                yield block


def plan_length(block_bytes: int) -> int:
    store = ray.cluster_resources().get("object_store_memory", 0) / max(1, len(ray.nodes())) / STORE_SHARE
    return max(FEWEST, int(min(store, MOST_BYTES) // block_bytes))


def _begun(reference: Any, numbers: range) -> Iterator[Columns]:
    """The blocks, once the first of them is there."""
    blocks: Any = iter(_plan(reference, numbers).iter_batches(batch_size=None, prefetch_batches=4))
    return chain([next(blocks)], blocks)


def _plan(reference: Any, numbers: range) -> Dataset:
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    context = DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.op_resource_reservation_enabled = False
    return ray.data.read_datasource(_Blocks(reference, numbers), override_num_blocks=len(numbers))


@lru_cache(maxsize=16)
def _made(reference: Any) -> Make:
    return ray.get(reference)
