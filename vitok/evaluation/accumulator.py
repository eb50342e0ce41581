"""From measured batches to values: what has been counted so far, in memory that does not grow with the samples.

Batches are added in any order, and tallies of parts of an evaluation merge. A sample is counted once, or it is an error.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitok.errors import VitokError
from vitok.evaluation.measure import CODER_VALUE, OUTSIDE, Columns
from vitok.metrics import kid, precision_recall
from vitok.metrics.feature_table import FeatureTable
from vitok.metrics.frechet import extrapolate, frechet_distance
from vitok.metrics.inception_score import SEED, SPLITS, InceptionScore
from vitok.metrics.moments import Gaussian, Moments
from vitok.metrics.registry import Metric, required_networks
from vitok.storage import atomic, mirror

LEAST = {
    "score": SPLITS,
    "kernel": kid.SUBSET_SIZE,
    "precision": precision_recall.NEIGHBOUR + 1,
    "recall": precision_recall.NEIGHBOUR + 1,
    "infinity": 20,
}
WHY = {
    "score": "one a split", "kernel": "a subset", "infinity": "two in each part",
    **dict.fromkeys(("precision", "recall"), f"for a neighbour number {precision_recall.NEIGHBOUR}"),
}  # fmt: skip
COVARIANCE, FEWEST = "or there is no covariance to speak of", 3
RANK = "covariance of rank"  # begins what is said of one that the samples do not fill
PARTS = 10  # disjoint parts whose unions FD-infinity is extrapolated from


@dataclass(frozen=True)
class MetricValue:
    """The value of a metric, with what its protocol says of it."""

    value: float
    count: int  # samples that went in
    deviation: float | None = None  # over splits or subsets
    settings: str = ""
    seed: int = 0


@dataclass(frozen=True)
class EvaluationSizes:
    """The sizes of an evaluation: views that are added, their frames, views that are measured, and views that they are compared with.
    The first, third and fourth are equal where reconstructions are compared with their originals."""

    views: int
    frames: int
    outputs: int
    references: int


class MetricAccumulator:
    """Everything that has been measured so far, in memory that does not grow with the samples."""

    def __init__(self, metrics: Sequence[Metric], sizes: EvaluationSizes) -> None:
        """Start empty. Raises `VitokError` for sizes that a metric cannot be had from."""
        self.metrics, self.sizes = metrics, sizes
        self.seen = np.zeros(sizes.views, bool)
        self.values = {name: np.full(sizes.views, np.nan) for name in (OUTSIDE, *(m.name for m in metrics if m.paired))}
        self.parts: dict[str, list[Moments]] = {}  # by "<network>/output" and "<network>/original"
        self.scores: dict[str, InceptionScore] = {}
        self.rows: dict[str, FeatureTable] = {}
        for metric in metrics:
            if not metric.paired and min(self._counts(metric.network)) < (least := LEAST.get(metric.statistic, FEWEST)):
                few = min(self._counts(metric.network))
                why = WHY.get(metric.statistic, COVARIANCE)
                raise VitokError(
                    f"{metric.name}: {few} sample(s); it takes {least} at least, {why}: hold out more, or leave this metric out"
                )
        self.drawn = {n: kid.draw_subsets(*self._counts(n)) for n in required_networks(m for m in metrics if m.statistic == "kernel")}

    def _counts(self, network: str) -> tuple[int, int]:
        """Samples of a network on either side: frames, or clips."""
        each = 1 if network == "i3d" else self.sizes.frames
        return self.sizes.outputs * each, self.sizes.references * each

    def add(self, numbers: np.ndarray, columns: Columns) -> None:
        """The rows of the views with these numbers. Raises `VitokError` for one that was counted before."""
        if self.seen[numbers].any() or len(np.unique(numbers)) < len(numbers):
            raise VitokError(f"view {int(numbers[self.seen[numbers]][0]) if self.seen[numbers].any() else numbers[0]} came twice")
        self.seen[numbers] = True
        for name, column in columns.items():
            if name in self.values or name.startswith(CODER_VALUE):
                self.values.setdefault(name, np.full(self.sizes.views, np.nan))[numbers] = column
            elif "/" in name:
                self._add(name, numbers, column)

    def _add(self, name: str, views: np.ndarray, column: np.ndarray) -> None:
        network, _, side = name.partition("/")
        samples = (views[:, None] * column.shape[1] + np.arange(column.shape[1])).ravel()
        rows = torch.from_numpy(np.ascontiguousarray(column)).flatten(0, 1)
        if side == "logits":
            if name not in self.scores:
                self.scores[name] = InceptionScore(self._counts(network)[0], rows.shape[1])
            self.scores[name].add(samples, rows)
            return
        statistics = self._statistics(network)
        if statistics & {"frechet", "infinity"}:
            parts = self.parts.setdefault(name, self._fresh_parts(name))
            for number, part in enumerate(parts):
                if len(chosen := rows[torch.from_numpy(samples % len(parts) == number)]):
                    part.add(chosen)
        if statistics & {"kernel", "precision", "recall"}:
            if name not in self.rows:
                self.rows[name] = self._fresh_rows(name, rows.shape[1])
            self.rows[name].add(samples, rows)

    def _count(self, network: str, side: str) -> int:
        return self._counts(network)[side == "original"]

    def _wanted(self, network: str, side: str, statistics: set[str]) -> np.ndarray:
        chosen = [precision_recall.choose_samples(self._count(network, side))] if statistics & {"precision", "recall"} else []
        chosen += [subset[side == "original"] for subset in self.drawn.get(network, [])]
        return np.unique(np.concatenate(chosen))

    def merge(self, other: "MetricAccumulator") -> None:
        """Add all that another accumulator has counted. Raises `VitokError` for a view that both have."""
        if (self.seen & other.seen).any():
            raise VitokError(f"view {int(np.flatnonzero(self.seen & other.seen)[0])} was counted twice")
        self.seen |= other.seen
        for name, values in other.values.items():
            self.values.setdefault(name, np.full(self.sizes.views, np.nan))[other.seen] = values[other.seen]
        for name, parts in other.parts.items():
            for mine, theirs in zip(self.parts.setdefault(name, [Moments() for _ in parts]), parts, strict=True):
                mine.merge(theirs)
        for name, score in other.scores.items():
            self.scores.setdefault(name, InceptionScore(len(score.split), score.classes.shape[1])).merge(score)
        for name, rows in other.rows.items():
            if name in self.rows:
                self.rows[name].merge(rows)
            else:
                self.rows[name] = rows

    def state(self) -> dict[str, np.ndarray]:
        """Return everything as plain arrays, to be kept and gone on from."""
        arrays = {"seen": self.seen} | {f"values:{name}": values for name, values in self.values.items()}
        for name, parts in self.parts.items():
            for number, part in enumerate(parts):
                for what, array in part.state().items():
                    arrays[f"parts:{name}:{number}:{what}"] = array
        for name, score in self.scores.items():
            arrays |= {f"scores:{name}:{what}": getattr(score, what).numpy() for what in ("seen", "certainty", "classes")}
        for name, rows in self.rows.items():
            arrays |= {f"rows:{name}:{what}": getattr(rows, what) for what in ("rows", "filled")}
        return arrays

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore what an accumulator of the same metrics and sizes had counted."""
        self.seen = arrays["seen"]
        for key, array in arrays.items():
            kind, *path = key.split(":")
            if kind == "values":
                self.values[path[0]] = array
            elif kind == "parts":
                parts = self.parts.setdefault(path[0], self._fresh_parts(path[0]))
                parts[int(path[1])].load(path[2], array)
            elif kind == "scores":
                classes = arrays[f"scores:{path[0]}:classes"].shape[1]
                score = self.scores.setdefault(path[0], InceptionScore(self._counts(path[0].partition("/")[0])[0], classes))
                setattr(score, path[1], torch.from_numpy(array))
            elif kind == "rows":
                width = arrays[f"rows:{path[0]}:rows"].shape[1]
                self.rows[path[0]] = self.rows.get(path[0]) or self._fresh_rows(path[0], width)
                setattr(self.rows[path[0]], path[1], array)

    def _fresh_parts(self, name: str) -> list[Moments]:
        network, _, side = name.partition("/")
        split = side == "output" and "infinity" in self._statistics(network)
        return [Moments() for _ in range(PARTS if split else 1)]

    def _fresh_rows(self, name: str, width: int) -> FeatureTable:
        network, _, side = name.partition("/")
        return FeatureTable(self._count(network, side), self._wanted(network, side, self._statistics(network)), width)

    def of_reference(self) -> dict[str, np.ndarray]:
        """Return, by network, the samples of the reference whose own features a metric needs."""
        names = required_networks(metric for metric in self.metrics if metric.statistic in ("kernel", "precision", "recall"))
        return {name: self._wanted(name, "original", self._statistics(name)) for name in names}

    def _statistics(self, network: str) -> set[str]:
        return {metric.statistic for metric in self.metrics if metric.network == network}

    def gaussian(self, name: str) -> Gaussian:
        """Return mean and covariance of "<network>/output" or "<network>/original"."""
        union = Moments()
        for part in self.parts[name]:
            union.merge(part)
        return union.gaussian()

    def results(self, references: dict[str, Gaussian] | None = None) -> dict[str, MetricValue]:
        """Return the value of every metric. `references`: the reference of each network, where it is not the originals that were added."""
        found: dict[str, MetricValue] = {}
        for metric in self.metrics:
            if metric.paired:
                values = self.values[metric.name][self.seen]
                found[metric.name] = MetricValue(float(values.mean()), len(values))
            else:
                found[metric.name] = self._of_sets(metric, references or {})
        return found

    def _of_sets(self, metric: Metric, references: dict[str, Gaussian]) -> MetricValue:
        network, output, original = metric.network, f"{metric.network}/output", f"{metric.network}/original"
        if metric.statistic == "score":
            score = self.scores[f"{network}/logits"]
            return MetricValue(score.score().mean, int(score.seen.sum()), score.score().deviation, f"{SPLITS} splits", SEED)
        if metric.statistic == "kernel":
            distance = kid.kernel_distance(self.rows[output], self.rows[original], self.drawn[network])
            count = int(self.rows[output].filled.sum())
            return MetricValue(distance.mean, count, distance.deviation, f"{kid.SUBSETS} subsets of {kid.SUBSET_SIZE}", kid.SEED)
        if metric.statistic in ("precision", "recall"):
            sides = [
                self.rows[name].of(precision_recall.choose_samples(self._count(network, name.partition("/")[2])))
                for name in (output, original)
            ]
            value = getattr(precision_recall.precision_recall(*sides), metric.statistic)
            return MetricValue(
                value, len(sides[0]), settings=f"k = {precision_recall.NEIGHBOUR}, {len(sides[1])} references", seed=precision_recall.SEED
            )
        reference = references.get(network) or self.gaussian(original)
        # StyleGAN-V, and LARP after it, divide FVD's covariances by the count; FID's are divided by one less.
        population = metric.video
        settings = f"covariance divided by n{'' if population else ' - 1'}, {reference.count or 'an unknown number of'} references"
        if metric.statistic == "infinity":
            found = extrapolate(self.parts[output], reference, population)
            line = f"line through {len(found.counts)} unions of {PARTS} parts, from {found.counts[0]} samples on"
            return MetricValue(found.value, found.counts[-1], settings=f"{line}; {settings}")
        gaussian = self.gaussian(output)
        if gaussian.count <= len(gaussian.mean):
            settings += f"; {RANK} {gaussian.count - 1} in {len(gaussian.mean)} dimensions"
        return MetricValue(frechet_distance(gaussian, reference, population), gaussian.count, settings=settings)


STATE = "state"


def keep_counts(path: Path, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Keep what an evaluation has counted so far, so that a killed one goes on from there."""
    text = np.array(json.dumps(state))
    mirror.send(atomic.write(path, lambda file: np.savez(file, **arrays, **{STATE: text})))  # pyright: ignore[reportArgumentType]


def read_counts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Return what was kept by `keep_counts`; None where there is nothing."""
    if not mirror.fetch(path).is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop(STATE))), arrays
