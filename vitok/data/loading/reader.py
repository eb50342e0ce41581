"""Decode sample i of a run, inside a decode task: a function of (seed, i) alone.

The order therefore needs no state: a resumed run asks for the batches from its step on, and any number of workers cut the same global
batches. A sample that cannot be decoded is replaced by the next one of the order, and counted as rejected.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray
from PIL import Image

from vitok.config import Data
from vitok.data.corpora.splits import Split
from vitok.data.decoding.image import center_clip, center_crop, load, random_clip, random_crop
from vitok.data.loading.order import Mixture, Order, epoch_order
from vitok.data.sample import NO_LABEL, Rejection, Sample
from vitok.errors import RejectedError

CANDIDATES = 100  # samples of the order that are tried for one place
FEW = 16  # samples of a corpus whose decoded images are kept
READS = 16  # requests to a store at once, by one task


@dataclass(frozen=True)
class Decoded:
    """A decoded sample. `pixels` is (size, size, 3) for one frame, else (frames, size, size, 3), uint8; None where nothing could be
    decoded."""

    pixels: np.ndarray | None
    label: int
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class Reader:
    """The description of a split that every decode task receives. The splits themselves, which may be large, lie once in the object
    store of each node."""

    splits: tuple[Any, ...]  # references to the `Split` of each corpus of the mixture
    counts: tuple[int, ...]
    videos: tuple[bool, ...]
    weights: tuple[float, ...]
    data: Data
    size: int
    frames: int
    remote: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample's pixels: (size, size, 3) or (frames, size, size, 3)."""
        return (self.size, self.size, 3) if self.frames == 1 else (self.frames, self.size, self.size, 3)

    @property
    def total(self) -> int:
        """The number of held-out views in use: `validation_crops` views of each sample, corpus after corpus; at most `validation_views`
        of them, evenly spread."""
        return min(self.data.validation_views or self.whole, self.whole)

    @property
    def whole(self) -> int:
        """The number of held-out views that there could be: all samples times `validation_crops`."""
        return sum(self.counts) * self.data.validation_crops

    def samples(self) -> np.ndarray:
        """Return the number of the sample that each view shows, (total,) integers."""
        return np.arange(self.total) * self.whole // self.total // self.data.validation_crops

    def training(self, samples: Sequence[int], seed: int) -> list[Decoded]:
        """Decode training samples by their number in the run: a random crop or clip each."""
        return self._each(lambda sample: self._training(sample, seed), samples)

    def views(self, views: Sequence[int]) -> list[Decoded]:
        """Decode held-out views by their number, below `total`: the centre, or fixed random crops."""
        return self._each(self._view, views)

    def _each(self, decode: Any, numbers: Sequence[int]) -> list[Decoded]:
        if not self.remote:
            return [decode(int(n)) for n in numbers]
        with ThreadPoolExecutor(READS) as pool:  # waiting for the store is what takes the time
            return list(pool.map(decode, map(int, numbers)))

    def _training(self, sample: int, seed: int) -> Decoded:
        corpus, own = Mixture(self.weights).at(sample, seed)
        split, count = _split(self.splits[corpus]), self.counts[corpus]
        epoch, place = divmod(own, count)
        order = _order(self.splits[corpus], seed, epoch)
        rejected: list[Rejection] = []
        for candidate in range(min(CANDIDATES, count)):
            unit, row = order.at((place + candidate) % count)
            try:
                found = split.get(unit, row)
                pixels = self._crop(found, self.videos[corpus], np.random.default_rng([seed, sample]))
                return Decoded(pixels, found.label, tuple(rejected))
            except RejectedError as error:
                rejected.append(Rejection(split.name(unit, row), error.reason, error.detail))
        return Decoded(None, NO_LABEL, tuple(rejected))

    def name(self, view: int) -> str:
        """Return the name, within its corpus, of the sample that a view shows, with the crop's number where there are several."""
        corpus, unit, row = self._find(view)
        crop = f" (crop {self._drawn(view) % self.data.validation_crops})" if self.data.validation_crops > 1 else ""
        return _split(self.splits[corpus]).name(unit, row) + crop

    def about(self) -> str:
        """Return a description of the views, for an evaluation protocol."""
        return describe_views(self.data, self.frames, self.total, self.whole)

    def _drawn(self, view: int) -> int:
        """Return the number of a view among the `whole` views that there could be."""
        return view * self.whole // self.total

    def _find(self, view: int) -> tuple[int, int, int]:
        """Return (corpus, unit, row) of the sample that a view shows."""
        number, corpus = self._drawn(view) // self.data.validation_crops, 0
        while number >= self.counts[corpus]:
            number -= self.counts[corpus]
            corpus += 1
        return corpus, *_place(self.splits[corpus], number)

    def _view(self, view: int) -> Decoded:
        corpus, unit, row = self._find(view)
        split = _split(self.splits[corpus])
        try:
            found = split.get(unit, row)
            if self.data.validation_crops > 1:
                return Decoded(self._crop(found, self.videos[corpus], np.random.default_rng([0, self._drawn(view)])), found.label)
            return Decoded(self._center(found, self.videos[corpus]), found.label)
        except RejectedError as error:
            return Decoded(None, NO_LABEL, (Rejection(split.name(unit, row), error.reason, error.detail),))

    def _crop(self, sample: Sample, video: bool, rng: np.random.Generator) -> np.ndarray:
        if video:
            return self._shaped(random_clip(sample, self.size, self.frames, self.data.fps, self.data.smallest_crop, rng))
        # 2 x size: a JPEG decoded at a reduced scale keeps enough pixels for a crop of half the short side.
        return self._shaped(random_crop(self._image(sample, 2 * self.size), self.size, self.data.smallest_crop, rng))

    def _center(self, sample: Sample, video: bool) -> np.ndarray:
        if video:
            return self._shaped(center_clip(sample, self.size, self.frames, self.data.fps))
        return self._shaped(center_crop(self._image(sample, 0), self.size))

    def _image(self, sample: Sample, smallest: int) -> Image.Image:
        # Many crops of few photographs: each is decoded once. Of many they would fill the memory, and not be met again.
        few = sum(self.counts) <= FEW
        read = _kept if few else load
        return read(sample.data or b"", smallest, sample.background)

    def _shaped(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels in this reader's shape: one frame has no axis of frames; an image among videos becomes a still clip."""
        if self.frames == 1:
            return pixels[0] if pixels.ndim == 4 else pixels
        return pixels if pixels.ndim == 4 else np.repeat(pixels[None], self.frames, axis=0)


def describe_views(data: Data, frames: int, views: int, whole: int) -> str:
    """Return a description of how `views` of `whole` views are cut, for an evaluation protocol."""
    crops, share = data.validation_crops, data.smallest_crop
    cut = "ADM's centre crop" if crops == 1 else f"{crops} fixed random crops a sample, of sides from {share:g} of its short side"
    cut += f", {frames} frames at {data.fps:g} a second" if frames > 1 else ""
    return cut + (f", {views} of {whole} views, evenly spread" if views < whole else "")


@lru_cache(maxsize=8)
def _split(reference: Any) -> Split:
    return ray.get(reference)


@lru_cache(maxsize=8)
def _order(reference: Any, seed: int, epoch: int) -> Order:
    split = _split(reference)
    return epoch_order(len(split), split.units, split.window, seed, epoch)


@lru_cache(maxsize=4)
def _ends(reference: Any) -> np.ndarray | None:
    units = _split(reference).units
    return None if units is None else np.cumsum(units)


def _place(reference: Any, number: int) -> tuple[int, int]:
    """Return (unit, row) of a sample by its number in the split's own order."""
    ends = _ends(reference)
    if ends is None:
        return number, 0
    unit = int(np.searchsorted(ends, number, side="right"))
    return unit, number - (int(ends[unit - 1]) if unit else 0)


@lru_cache(maxsize=FEW)
def _kept(data: bytes, smallest: int, background: str) -> Image.Image:
    return load(data, smallest, background)
