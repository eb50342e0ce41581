"""Bad steps: not finite, or far off. What is done about them is the same on every rank, since the norms are."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vitok.data.sample import Rejection
from vitok.storage.layout import RunFolder, StoredFolder

SPIKE = 6.0  # standard deviations above the running mean
MEMORY = 0.98  # of the running mean and variance: about fifty steps
SETTLED = 50  # steps before anything can be called a spike
RETREATS = 3  # from one checkpoint, before the run is given up


class BackToCheckpointError(Exception):
    """Training must go on from the last checkpoint, with other data: see `launch`."""

    def __init__(self, step: int, batch: int, reason: str) -> None:
        super().__init__(reason)
        self.step, self.batch, self.reason = step, batch, reason  # the last bad ones


@dataclass
class StepHealth:
    """Counts of one run; they travel with its checkpoints."""

    skipped: int = 0  # steps that changed nothing, because a gradient was not finite
    spikes: int = 0
    retreats: int = 0
    mean: float = 0.0
    variance: float = 0.0
    seen: int = 0
    in_a_row: int = 0

    def judge(self, loss: float, norms: dict[str, float]) -> tuple[bool, str]:
        """Judge a step by its loss and the norms of its gradients. Return whether it was skipped, and what is wrong with it: nothing,
        "skipped: ..." or "spike: ..."."""
        bad = [f"the gradient's norm of the {name} is {norm}" for name, norm in norms.items() if not math.isfinite(norm)]
        bad = ([] if math.isfinite(loss) else [f"the loss became {loss}"]) + bad
        if bad:
            self.skipped += 1
            self.in_a_row += 1
            return True, "skipped: " + "; ".join(bad)
        self.in_a_row = 0
        limit = self.mean + SPIKE * math.sqrt(self.variance) if self.seen >= SETTLED else math.inf
        self.seen += 1
        new, apart = max(1 - MEMORY, 1 / self.seen), min(loss, limit) - self.mean
        before = self.mean
        self.mean += new * apart
        self.variance = (1 - new) * (self.variance + new * apart * apart)
        if loss <= limit:
            return False, ""
        self.spikes += 1
        return False, f"spike: the loss is {loss:.4g}, about {before:.4g} until now"


class KeptBatch(Protocol):
    """A batch, as far as it is kept after a failure."""

    @property
    def rejected(self) -> frozenset[Rejection]:
        """Samples that had to be replaced or left out."""
        ...

    def __len__(self) -> int: ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return its samples as arrays, by name."""
        ...


def keep_batch(folder: RunFolder, batch: KeptBatch, step: int, position: int, rank: int) -> str:
    """Keep the samples of a batch that made a step fail, in bad_batches/step_00000012-batch_00000012-rank_00000.npz of the run's folder.
    Return the address of the file."""
    kept = StoredFolder(folder.file(folder.BAD_BATCHES))
    name = f"step_{step:08d}-batch_{position:08d}-rank_{rank:05d}.npz"
    kept.write(name, lambda file: np.savez_compressed(file, **batch.arrays()))  # pyright: ignore[reportArgumentType]
    return f"{kept.address}/{name}"
