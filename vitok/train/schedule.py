"""Learning rates over the steps of a run."""

import math

from vitok.config import Optimizer


def constant_rate(optimizer: Optimizer, batch_size: int, step: int, steps: int) -> float:
    """Return the learning rate at a step: a linear warmup, then constant; the peak as in `cosine_rate`."""
    return optimizer.lr * batch_size / 256 * min(1.0, (step + 1) / max(1, round(optimizer.warmup * steps)))


def cosine_rate(optimizer: Optimizer, batch_size: int, step: int, steps: int) -> float:
    """Return the learning rate at a step: a linear warmup, then a cosine to zero. The peak is `lr` for every 256 samples of the batch
    (section 2.3)."""
    return optimizer.lr * batch_size / 256 * cosine_schedule(optimizer.warmup, step, steps)


def cosine_schedule(warmup: float, step: int, steps: int) -> float:
    """Return the share of the peak at a step."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
