"""The evaluation of a generator within its run: every rank draws its share of the samples and measures them as they come."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from vitok.config import Generation, Sampling
from vitok.errors import VitokError
from vitok.evaluation import accumulator
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator
from vitok.evaluation.evaluation import Evaluation, Examples, build_evaluation, known_rows, known_statistics, statistics_suffice
from vitok.evaluation.generator import Draw, TrainedCorpus
from vitok.evaluation.measure import Measurer, require_frames
from vitok.evaluation.statistics import Reference, Statistics
from vitok.metrics.psnr_ssim import to_uint8
from vitok.metrics.registry import Metric
from vitok.networks.sources import Payload

KEPT_EVERY = 30.0  # seconds between two records of what was counted
CLASSES, EACH = 8, 8  # of a picture: classes, evenly spread, and samples of each
IMAGES_CFG, CLIPS_CFG = 4.0, 2.0  # guidance of pictures (figures 16, 17; 21)


def describe_sampling(recipe: Generation) -> str:
    """Return how samples come about, for a protocol."""
    sampling = recipe.sampling
    way = f"DDIM, {sampling.spacing} spacing" if recipe.diffusion.objective == "noise" else "Euler"
    labels = "classes in the corpus's shares" if recipe.conditional else "unconditional"
    weights = f"weights averaged by {recipe.ema:g}" if recipe.ema else "last weights"
    return f"{sampling.steps} steps ({way}), CFG {sampling.cfg:g}, {labels}, {weights}"


class SampleEvaluation:
    """The evaluation of a generator's run. The statistics of the reference must be at hand: raises `VitokError` if not."""

    def __init__(
        self, metrics: Sequence[Metric], payloads: dict[str, Payload], recipe: Generation, reference: Reference, views: int,
        statistics: Statistics, device: torch.device, folder: Path, rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        """`views` are the reference's; `folder` is where counts are kept."""
        require_frames(metrics, reference.frames)
        self.metrics, self.recipe, self.reference, self.folder = metrics, recipe, reference, folder
        self.rank, self.world = rank, world
        self.sizes = EvaluationSizes(recipe.sampling.count, reference.frames, recipe.sampling.count, views)
        self.known = known_statistics(metrics, statistics, reference)
        self.rows = known_rows(MetricAccumulator(metrics, self.sizes), statistics, reference)
        if not statistics_suffice(metrics, self.known, self.rows):
            raise VitokError(f"the statistics of {reference.name} are not at hand in {statistics.folder}")
        self.measurer = Measurer(metrics, payloads, device, False, lambda number: f"sample {number}")

    def __call__(self, draw: Draw, about: TrainedCorpus, identity: str, batch: int, alive: Callable[[], None]) -> Evaluation:
        """Measure every sample of the recipe, drawn with weights of this identity. With several ranks every one of them must call this,
        and gets the whole result."""
        tally, count, problem = MetricAccumulator(self.metrics, self.sizes), self.sizes.outputs, ""
        blocks = [range(first, min(first + batch, count)) for first in range(0, count, batch)][self.rank :: self.world]
        kept = self.folder / f"drawn-{self.rank}-of-{self.world}.npz"
        asked = [identity, self.recipe.sampling.model_dump(), batch, [metric.name for metric in self.metrics]]
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        try:
            done, last = _load(kept, key, tally), time.monotonic()
            for number, block in enumerate(blocks[done:], start=done + 1):
                alive()
                numbers = np.array(block)
                outputs = draw(numbers, about.labels(numbers))
                tally.add(numbers, self.measurer(numbers, to_uint8(outputs), outputs))
                if time.monotonic() - last > KEPT_EVERY or number == len(blocks):
                    accumulator.keep_counts(kept, {"key": key, "done": number}, tally.state())
                    last = time.monotonic()
        except VitokError as error:  # every rank must hear of it, or the others wait for this one
            problem = str(error)
        everything = self._everywhere((problem, tally))
        if problems := [one[0] for one in everything if one[0]]:
            raise VitokError(problems[0])
        whole = everything[0][1]
        for _, part in everything[1:]:
            whole.merge(part)
        whole.rows |= {f"{name}/original": rows for name, rows in self.rows.items()}
        return build_evaluation(whole, Examples(count), frozenset(), self.reference, self.known, describe_sampling(self.recipe))

    def _everywhere(self, value: object) -> list[Any]:
        values: list[Any] = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values


def picture_sampling(recipe: Generation) -> Sampling:
    """Return how samples for people are drawn."""
    cfg = 1.0 if not recipe.conditional else IMAGES_CFG if recipe.tokenizer.tokenizer.frames == 1 else CLIPS_CFG
    return recipe.sampling.model_copy(update={"cfg": cfg})


def draw_for_people(draw: Draw, about: TrainedCorpus) -> Tensor:
    """Draw samples for people, (classes x EACH, 3, [T,] H, W) uint8, class by class; of an unconditional generator EACH x EACH."""
    classes = len(about.counts) or 1
    shown = np.unique(np.linspace(0, classes - 1, min(classes, CLASSES)).round().astype(int)) if about.counts else np.zeros(EACH, int)
    labels = np.repeat(shown, EACH)
    return to_uint8(torch.cat([draw(np.arange(EACH) + n, labels[n : n + EACH]) for n in range(0, len(labels), EACH)])).cpu()


def _load(path: Path, key: str, tally: MetricAccumulator) -> int:
    """Return how many blocks were counted before, for the same weights and settings; the accumulator has them then."""
    kept = accumulator.read_counts(path)
    if not kept or kept[0]["key"] != key:
        return 0
    state, arrays = kept
    tally.load(arrays)
    return state["done"]
