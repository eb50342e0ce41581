"""The runtime of a process that computes: torch's threads, and what its allocator does with freed memory."""

import ctypes
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
KEPT, LARGEST = 512 << 20, 256 << 20  # bytes: kept when freed; of one array that is kept so


def device(gpus: int, threads: int) -> "torch.device":
    """Return the GPU of this process, or the CPU with so many threads."""
    import torch  # 2 s, which processes that only decode need not wait

    if gpus:
        return torch.device("cuda")
    compute_here(threads)
    return torch.device("cpu")


def compute_here(threads: int) -> None:
    """Ready this process to compute on CPUs. The arrays of a step are kept for the next: to give them back and ask anew is a page fault
    for each 4 kB, a tenth of a step's time."""
    import torch

    torch.set_num_threads(threads)
    keep_freed_memory(KEPT, LARGEST)


@lru_cache(maxsize=1)
def keep_freed_memory(kept: int, largest: int) -> None:
    """Let the allocator keep up to `kept` bytes of freed arrays of at most `largest` bytes each."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc alone has it
    if mallopt:
        if not mallopt(M_MMAP_THRESHOLD, largest):
            mallopt(M_MMAP_THRESHOLD, 32 << 20)  # older ones take no more
        mallopt(M_TRIM_THRESHOLD, kept)
