"""An evaluation and its results, whoever runs it: a rank of a training run here, a pool of actors in `evaluation.pool`."""

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from vitok.data.loading.loader import Source
from vitok.data.sample import Rejection
from vitok.errors import VitokError
from vitok.evaluation.accumulator import EvaluationSizes, MetricAccumulator, MetricValue
from vitok.evaluation.measure import OUTSIDE, Measurer, require_frames
from vitok.evaluation.statistics import Reference, Statistics
from vitok.losses import to_pixels
from vitok.metrics.feature_table import FeatureTable
from vitok.metrics.moments import Gaussian
from vitok.metrics.nested_prefix import Prefix
from vitok.metrics.protocol import Protocol, code_version
from vitok.metrics.psnr_ssim import to_uint8
from vitok.metrics.registry import SAMPLE_COLUMN, Metric, required_networks
from vitok.models.features.dinov2 import DINOv2
from vitok.models.features.efficientnet import EfficientNetLite0
from vitok.models.features.i3d import I3D
from vitok.models.features.inception import Inception
from vitok.networks.registry import NETWORKS
from vitok.networks.sources import Payload

SHOWN = 16  # images kept for the picture
PREPARED = {
    "fid-inception": Inception.PREPARED, "efficientnet-lite0": EfficientNetLite0.PREPARED, "dinov2-vitl14": DINOv2.PREPARED,
    "i3d": I3D.PREPARED,
    "psnr": "uint8 RGB, 10 log10(255^2 / mean square error)",
    "ssim": "uint8 RGB, 11 x 11 Gaussian window of deviation 1.5, the pixels whose whole window lies inside (Wang et al. 2004)",
    "lpips": "uint8, x / 127.5 - 1, LPIPS 0.1 (Zhang et al. 2018)",
}  # fmt: skip
KnownStatistics = dict[str, tuple[Gaussian, Reference]]  # statistics that are at hand, by network


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation: values with their protocols, single images, pictures."""

    results: dict[str, MetricValue]  # by metric; that of a shorter code by "rPSNR:32"
    protocols: dict[str, Protocol]
    per_image: dict[str, list[float]]  # of the paired metrics, in the order of the views
    samples: tuple[int, ...]  # of the corpus, which each of those views shows; views of one sample are near copies
    outside: float  # share of the reconstructions' values outside of [-1, 1]
    originals: Tensor  # (N, 3, H, W) uint8, spread over the views; of a clip the middle frame
    reconstructions: Tensor
    rejected: frozenset[Rejection]
    images: int  # samples that were measured

    def pictured(self, pictures: Tensor) -> "Evaluation":
        """Return the evaluation with samples for people, (N, 3, [T,] H, W) uint8, which are reconstructions of nothing."""
        return replace(self, originals=pictures[:0], reconstructions=pictures)

    def beside(self, shorter: "Iterable[Evaluation]") -> "Evaluation":
        """Return the evaluation with the values of shorter codes (A.4), which bear names of their own; all else stays that of the whole
        code."""
        all_of = [self, *shorter]
        results, protocols, per_image = (
            {name: value for one in all_of for name, value in getattr(one, kind).items()} for kind in ("results", "protocols", "per_image")
        )
        return replace(self, results=results, protocols=protocols, per_image=per_image)

    def each(self) -> bytes:
        """Return the values of single views as JSON, by metric, and under `SAMPLE_COLUMN` which sample each shows."""
        return json.dumps({**self.per_image, SAMPLE_COLUMN: self.samples}).encode()

    @property
    def metrics(self) -> dict[str, float]:
        """The value of every metric."""
        return {name: value.value for name, value in self.results.items()}


@dataclass
class Examples:
    """Pictures of some views, spread evenly over all."""

    views: int
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @cached_property
    def wanted(self) -> set[int]:
        """The numbers of the views that are shown."""
        return set(np.linspace(0, self.views - 1, min(SHOWN, self.views)).round().astype(int).tolist())

    def add(self, numbers: np.ndarray, originals: Tensor, outputs: Tensor) -> None:
        """Keep those views of a batch that are shown."""
        for row, number in enumerate(numbers.tolist()):
            if number in self.wanted:
                self.kept[number] = middle_frame(originals[row]), middle_frame(to_uint8(outputs[row]))


def middle_frame(sample: Tensor) -> Tensor:
    """Return an image (3, H, W), or the middle frame of a clip (3, T, H, W), on the CPU."""
    return (sample[:, sample.shape[1] // 2] if sample.ndim == 4 else sample).cpu()


class HeldOutEvaluation:
    """The evaluation of a tokenizer's run, from one time to the next: networks stay loaded, originals are looked at once."""

    def __init__(
        self, metrics: Sequence[Metric], payloads: dict[str, Payload], source: Source, statistics: Statistics, device: torch.device,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        require_frames(metrics, source.frames)
        self.metrics, self.source, self.statistics = metrics, source, statistics
        self.device, self.rank, self.world = device, rank, world
        self.sizes = EvaluationSizes(source.views, source.frames, source.views, source.views)
        MetricAccumulator(metrics, self.sizes)  # which refuses too few samples now, not when all are measured
        self.measurer = Measurer(metrics, payloads, device, True, source.held_out.name)
        self.reference = Reference.of_corpus(
            source.uri, source.fingerprint, "validation", source.held_out.about(), source.size, source.frames
        )
        self.known: KnownStatistics | None = None

    def __call__(self, reconstruct: Callable[[Tensor], Tensor], batch_size: int, prefix: Prefix | None = None) -> Evaluation:
        """Measure every held-out view once. `reconstruct` maps pixels (B, 3, [T,] H, W) in [-1, 1] to the same, from this prefix of the
        code. With several ranks every one of them must call this: each works on its own batches and gets the whole result."""
        if self.known is None:
            self.known = self._everywhere(known_statistics(self.metrics, self.statistics, self.reference))[0]
        known: KnownStatistics = self.known or {}
        self.measurer.both = not statistics_suffice(self.metrics, known)
        problem = ""
        tally, examples, rejected = MetricAccumulator(self.metrics, self.sizes), Examples(self.source.views), set[Rejection]()
        try:
            for batch in self.source.validation_batches(batch_size, self.rank, self.world):
                rejected |= batch.rejected
                if len(batch.images):
                    assert batch.numbers is not None
                    images = batch.tensor().to(self.device)
                    with torch.no_grad():
                        outputs = reconstruct(to_pixels(images)).float()
                    originals = images.movedim(-1, 1)
                    tally.add(batch.numbers, self.measurer(batch.numbers, originals, outputs))
                    examples.add(batch.numbers, originals, outputs)
        except VitokError as error:  # every rank must hear of it, or the others wait for this one
            problem = str(error)
        everything = self._everywhere((problem, tally, examples, rejected))
        if problems := [one[0] for one in everything if one[0]]:
            raise VitokError(problems[0])
        whole, pictures, all_rejected = everything[0][1:]
        for _, part, more, found in everything[1:]:
            whole.merge(part)
            pictures.kept |= more.kept
            all_rejected |= found
        if self.measurer.both:
            self.known = reference_statistics(whole, self.reference)
            if self.rank == 0:
                keep_statistics(self.known, self.statistics)
        shown = self.source.held_out.samples()
        return build_evaluation(whole, pictures, frozenset(all_rejected), self.reference, self.known or {}, prefix=prefix, shown=shown)

    def _everywhere(self, value: object) -> list:  # pyright: ignore[reportMissingTypeArgument]
        """Return the values of all ranks."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values


def statistics_suffice(metrics: Sequence[Metric], known: KnownStatistics, rows: Collection[str] = ()) -> bool:
    """Return whether all that these metrics need of the reference is at hand: no sample of it has to be looked at again. `rows` are the
    networks of which the features of single samples are at hand, for KID, precision and recall."""
    sets = [metric for metric in metrics if not metric.paired and metric.statistic != "score"]
    return all(
        (metric.statistic in ("frechet", "infinity") and metric.network in known)
        or (metric.statistic in ("kernel", "precision", "recall") and metric.network in rows)
        for metric in sets
    )


def known_statistics(metrics: Sequence[Metric], statistics: Statistics, reference: Reference) -> KnownStatistics:
    """Find the statistics of a reference that are kept, by network."""
    found = {name: statistics.find(reference, name) for name in required_networks(metric for metric in metrics if not metric.paired)}
    return {name: (gaussian, reference) for name, gaussian in found.items() if gaussian}


def known_rows(tally: MetricAccumulator, statistics: Statistics, reference: Reference) -> dict[str, FeatureTable]:
    """Find the features of single samples of the reference that are kept, by network."""
    found = {name: statistics.find_rows(reference, name, wanted) for name, wanted in tally.of_reference().items()}
    return {name: rows for name, rows in found.items() if rows is not None}


def reference_statistics(tally: MetricAccumulator, reference: Reference) -> KnownStatistics:
    """Return the statistics of the originals that were looked at."""
    names = [name.removesuffix("/original") for name in tally.parts if name.endswith("/original")]
    return {name: (tally.gaussian(f"{name}/original"), reference) for name in names}


def keep_statistics(known: KnownStatistics, statistics: Statistics) -> None:
    """Keep statistics of references for later evaluations."""
    for network, (gaussian, reference) in known.items():
        statistics.keep(reference, network, gaussian)


def build_evaluation(
    tally: MetricAccumulator,
    examples: Examples,
    rejected: frozenset[Rejection],
    reference: Reference,
    known: KnownStatistics,
    drawn: str = "",
    prefix: Prefix | None = None,
    shown: np.ndarray | None = None,
) -> Evaluation:
    """Return the results of what was counted, each with its protocol; against `known` statistics where these are at hand. `drawn` says
    how samples of a generator came about, `prefix` from how much of their code reconstructions did, `shown` which sample each view
    shows. Raises `VitokError` where nothing was counted."""
    if not tally.seen.any():
        raise VitokError(f"no held-out sample could be decoded: {'; '.join(sorted(map(str, rejected))[:3])}")
    results = tally.results({name: gaussian for name, (gaussian, _) in known.items()})
    of = {name: found for name, (_, found) in known.items()}
    how = drawn or str(prefix or "")
    protocols = {m.name: protocol_of_value(m, results[m.name], of.get(m.network, reference), how) for m in tally.metrics}
    pictures = [examples.kept[number] for number in sorted(examples.kept)]
    originals, outputs = (torch.stack(side) for side in zip(*pictures, strict=True)) if pictures else (torch.empty(0), torch.empty(0))
    per_image = {metric.name: tally.values[metric.name][tally.seen].tolist() for metric in tally.metrics if metric.paired}
    outside = float(np.nanmean(tally.values[OUTSIDE])) if np.isfinite(tally.values[OUTSIDE]).any() else 0.0
    if prefix:
        results, protocols, per_image = prefix.names(results), prefix.names(protocols), prefix.names(per_image)
    samples = tuple(shown[tally.seen].tolist()) if shown is not None else ()
    return Evaluation(results, protocols, per_image, samples, outside, originals, outputs, rejected, int(tally.seen.sum()))


def protocol_of_value(metric: Metric, value: MetricValue, reference: Reference, how: str) -> Protocol:
    """Return the protocol of a value: all that must be equal before it may be compared."""
    network, settings = NETWORKS.get(metric.network), "; ".join(filter(None, (value.settings, how)))
    prepared = PREPARED[metric.statistic if metric.paired else metric.network]
    return Protocol(
        metric=metric.name, network=metric.network, weights=network.sha256 if network else "", prepared=prepared,
        reference=reference.name, fingerprint=reference.fingerprint, views=reference.views, size=reference.size,
        frames=reference.frames, count=value.count, settings=settings, seed=value.seed, code=code_version(),
    )  # fmt: skip
