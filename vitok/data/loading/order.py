"""Sample order: a function of (seed, epoch) alone, computed for any place without replaying earlier samples."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

PATTERN = 1000  # samples after which the schedule of a mixture repeats, in another order


@dataclass(frozen=True, eq=False)
class Order:
    """The order of one epoch: units in random order, and within each window of units their samples in random order."""

    seed: int
    epoch: int
    window: int
    units: np.ndarray  # unit numbers as they come, (U,)
    sizes: np.ndarray | None  # samples of each unit; None where every unit is one sample
    ends: np.ndarray  # samples up to the end of each window

    def at(self, place: int) -> tuple[int, int]:
        """Return (unit, row) of the sample at a place of the epoch."""
        if self.sizes is None:
            return int(self.units[place]), 0
        window = int(self.ends.searchsorted(place, side="right"))
        began, members, borders, mixed = _window(self, window)
        drawn = int(mixed[place - began])
        which = int(borders.searchsorted(drawn, side="right"))
        return int(members[which]), drawn - (int(borders[which - 1]) if which else 0)

    def rows(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (units, rows), (N,) each, of the samples at many places (N,) of the epoch."""
        if self.sizes is None:
            return self.units[places], np.zeros(len(places), np.int64)
        windows = self.ends.searchsorted(places, side="right")
        units, rows = np.empty((2, len(places)), np.int64)
        for window in np.unique(windows).tolist():
            here = windows == window
            began, members, borders, mixed = _window(self, window)
            drawn = mixed[places[here] - began]
            which = borders.searchsorted(drawn, side="right")
            units[here] = members[which]
            rows[here] = drawn - borders[which] + self.sizes[members[which]]
        return units, rows

    def span(self, window: int) -> tuple[int, int, np.ndarray]:
        """Return (place of the first sample, place after the last, units) of a window."""
        if self.sizes is None:
            return 0, int(self.ends[0]), self.units
        began, members, *_ = _window(self, window)
        return began, int(self.ends[window]), members


def epoch_order(count: int, sizes: np.ndarray | None, window: int, seed: int, epoch: int) -> Order:
    """Return the order of one epoch over `count` samples in units of `sizes` samples each; None for units of one sample."""
    units = np.random.default_rng([seed, epoch]).permutation(count if sizes is None else len(sizes))
    if sizes is None:
        return Order(seed, epoch, window, units, None, np.array([count]))
    ends = np.cumsum(sizes[units])[window - 1 :: window]
    if not len(ends) or ends[-1] != count:
        ends = np.append(ends, count)
    return Order(seed, epoch, window, units, sizes, ends)


@dataclass(frozen=True)
class Mixture:
    """A deterministic mixture of corpora: the corpus, and the number within it, of sample i of a run.

    In every `PATTERN` samples, each corpus has its weight's share to within one sample, wherever a run begins or is resumed.
    """

    weights: tuple[float, ...]

    def at(self, sample: int, seed: int) -> tuple[int, int]:
        """Return (index of the corpus, number of the sample among those drawn from that corpus)."""
        if len(self.weights) == 1:
            return 0, sample
        block, slot = divmod(sample, PATTERN)
        quotas = _quotas(self.weights)
        pattern = _pattern(self.weights, seed, block)
        corpus = int(pattern[slot])
        return corpus, block * quotas[corpus] + int(np.count_nonzero(pattern[:slot] == corpus))


def _quotas(weights: tuple[float, ...]) -> list[int]:
    """Return whole numbers in proportion to the weights that add up to `PATTERN`, by the largest-remainder method."""
    exact = np.asarray(weights) / sum(weights) * PATTERN
    quotas = np.floor(exact).astype(int)
    quotas[np.argsort(quotas - exact, kind="stable")[: PATTERN - quotas.sum()]] += 1
    return quotas.tolist()


@lru_cache(maxsize=4)
def _pattern(weights: tuple[float, ...], seed: int, block: int) -> np.ndarray:
    return np.random.default_rng([seed, block, 1]).permutation(np.repeat(np.arange(len(weights)), _quotas(weights)))


@lru_cache(maxsize=8)
def _window(order: Order, number: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return (place of the first sample, units, cumulative sizes of the units, shuffled samples) of a window."""
    assert order.sizes is not None
    began = int(order.ends[number - 1]) if number else 0
    members = order.units[number * order.window : (number + 1) * order.window]
    mixed = np.random.default_rng([order.seed, order.epoch, number]).permutation(int(order.ends[number]) - began)
    return began, members, np.cumsum(order.sizes[members]), mixed
