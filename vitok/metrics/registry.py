"""Catalogue of metrics by name. The prefix r stands for reconstructions against their originals, g for generated samples against a
reference set.

A Fréchet distance is FID on the FID Inception alone, FVD on I3D alone; on any other network it bears that network's name.
"""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from vitok.config.training import SMALLEST
from vitok.errors import UsageError
from vitok.networks.registry import NETWORKS

Statistic = Literal["psnr", "ssim", "lpips", "frechet", "infinity", "score", "kernel", "precision", "recall"]
PREFIX_SEPARATOR = ":"  # separates a metric's name from the prefix length of a nested code: "rPSNR:32"
SAMPLE_COLUMN = "sample"  # key beside the values of single views: the sample of the corpus that each view shows
PAIRED = ("psnr", "ssim", "lpips")


@dataclass(frozen=True)
class Metric:
    """A metric of the catalogue: its statistic, the network whose features it compares, its unit."""

    name: str
    statistic: Statistic
    network: str = ""  # a key of `NETWORKS`; empty for a formula on pixels
    unit: str = ""
    higher: bool = False  # higher is better
    smallest: int = 1  # side that it can measure, pixels

    @property
    def paired(self) -> bool:
        """True if the metric compares an image with its original, one value a sample, instead of two sets of samples."""
        return self.statistic in PAIRED

    @property
    def video(self) -> bool:
        """True if the metric's network takes clips instead of frames."""
        return self.network == "i3d"

    @property
    def about(self) -> str:
        """The unit, and whether higher or lower is better."""
        return f"{self.unit}, " * bool(self.unit) + f"{'higher' if self.higher else 'lower'} is better"


def _catalogue() -> Iterator[Metric]:
    yield Metric("rPSNR", "psnr", unit="dB", higher=True)
    yield Metric("rSSIM", "ssim", higher=True, smallest=11)
    yield Metric("LPIPS", "lpips", "lpips-alexnet", smallest=SMALLEST["alexnet"])
    yield Metric("LPIPS-VGG16", "lpips", "lpips-vgg16", smallest=SMALLEST["vgg16"])
    for letter in "rg":
        yield Metric(f"{letter}FID", "frechet", "fid-inception")
        yield Metric(f"{letter}FID-infinity", "infinity", "fid-inception")
        yield Metric(f"{letter}IS", "score", "fid-inception", higher=True)
        yield Metric(f"{letter}KID", "kernel", "fid-inception")
        yield Metric(f"{letter}Precision", "precision", "fid-inception", higher=True)
        yield Metric(f"{letter}Recall", "recall", "fid-inception", higher=True)
        yield Metric(f"{letter}FVD", "frechet", "i3d")
        yield Metric(f"{letter}FVD-infinity", "infinity", "i3d")
        for label, network in (("EffLite0", "efficientnet-lite0"), ("DINOv2", "dinov2-vitl14")):
            yield Metric(f"{letter}FD-{label}", "frechet", network)
            yield Metric(f"{letter}FD-{label}-infinity", "infinity", network)
            if label == "EffLite0":  # which has ImageNet's classes
                yield Metric(f"{letter}IS-{label}", "score", network, higher=True)
            yield Metric(f"{letter}KD-{label}", "kernel", network)
            yield Metric(f"{letter}Precision-{label}", "precision", network, higher=True)
            yield Metric(f"{letter}Recall-{label}", "recall", network, higher=True)


METRICS = {metric.name: metric for metric in _catalogue()}


def find_metrics(names: Iterable[str], letter: str = "r") -> tuple[Metric, ...]:
    """Return the metrics of these names, each once; case does not matter, nor does a missing first `letter`.

    Raises `UsageError` with the nearest known names.
    """
    known = {name.lower(): metric for name, metric in METRICS.items()}
    found: dict[str, Metric] = {}
    for name in names:
        tries = (prefix + name.strip().lower() for prefix in ("", letter, "r", "g"))
        metric = next((known[text] for text in tries if text in known), None)
        if metric is None:
            near = difflib.get_close_matches(name.strip().lower(), known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(known[text].name for text in near)}?" if near else f"there are {', '.join(METRICS)}"
            raise UsageError(f"unknown metric {name.strip()!r}; {hint}")
        found[metric.name] = metric
    return tuple(found.values())


def find_metrics_of_kind(names: Iterable[str], letter: str) -> tuple[Metric, ...]:
    """Return the metrics of these names, as `find_metrics`, for reconstructions (letter "r") or generated samples ("g") alone.

    Raises `UsageError` for a metric of the other kind.
    """
    found = find_metrics(names, letter)
    for metric in found:
        if metric.name.startswith("r" if letter == "g" else "g") or (letter == "g" and metric.paired):
            raise UsageError(f"{metric.name} is not of {'generated samples' if letter == 'g' else 'reconstructions'}")
    return found


def require_size(names: Iterable[str], size: int) -> None:
    """Raise `UsageError` for a metric that cannot measure pictures of `size` pixels a side."""
    for metric in find_metrics(names):
        if size < metric.smallest:
            raise UsageError(f"{metric.name} needs pictures of {metric.smallest} pixels a side or more, tokenizer.size is {size}")


def in_catalogue_order(names: Iterable[str]) -> list[str]:
    """Return those of these names that are metrics, in the catalogue's order: of the whole code, then of shorter prefixes ("rPSNR:32")."""
    order = list(METRICS)
    parts = [(name, *name.partition(PREFIX_SEPARATOR)[::2]) for name in names]
    found = [(order.index(metric), int(kept or 0), name) for name, metric, kept in parts if metric in METRICS]
    return [name for *_, name in sorted(found)]


def required_networks(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Return the networks of these metrics, in the registry's order."""
    wanted = {metric.network for metric in metrics}
    return tuple(name for name in NETWORKS if name in wanted)
