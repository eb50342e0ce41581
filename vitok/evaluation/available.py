"""Which metrics can be measured here, with the weights of the networks that they look through."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitok.config import Resources
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS, Metric, find_metrics, find_metrics_of_kind, required_networks
from vitok.networks import weights
from vitok.networks.registry import NETWORKS
from vitok.networks.sources import Payload

INCEPTION = "fid-inception"


@dataclass(frozen=True)
class Available:
    """Metrics that can be measured here, with the weights that they look through."""

    metrics: tuple[Metric, ...]
    payloads: dict[str, Payload]  # by network
    notes: tuple[str, ...] = ()  # for the user: what is measured in place of what

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics' names."""
        return tuple(metric.name for metric in self.metrics)

    def narrow(self, resources: Resources) -> Resources:
        """Return the resources with these metrics in place of those that were asked for."""
        return resources.model_copy(update={"metrics": self.names})


def available(names: Sequence[str], asked: bool, letter: str = "r") -> Available:
    """Find metrics by their names (see `registry.find_metrics_of_kind`), and the weights of their networks.

    Where a default list (not `asked` for by the user) names metrics of the FID Inception and its file cannot be had, the Fréchet
    distance on EfficientNet-Lite0 is taken in their place, under its own name. Raises `VitokError` for what cannot be had.
    """
    metrics = find_metrics_of_kind(names, letter)
    lost = [metric for metric in metrics if metric.network == INCEPTION]
    if asked or not lost or _reachable():
        return Available(metrics, payloads(metrics))
    others = [metric.name for metric in metrics if metric not in lost]
    stand_in = f"{lost[0].name[0]}FD-EffLite0"
    metrics = find_metrics(name for name in METRICS if name in {*others, stand_in})
    note = (
        f"{', '.join(metric.name for metric in lost)} look through {INCEPTION}, whose weights are not to be had here (`vitok "
        f"doctor` says how to get them): {stand_in}, which is not FID, is measured instead"
    )
    return Available(metrics, payloads(metrics), (note,))


def _reachable() -> bool:
    """Return whether there is a file of the Inception, or a source that gives one. A file that is there and wrong is an error, later."""
    if weights.local_file(NETWORKS[INCEPTION]):
        return True
    try:
        weights.resolve_weights(INCEPTION)
    except VitokError:
        return False
    return True


def payloads(metrics: Iterable[Metric]) -> dict[str, Payload]:
    """Return the weights of the networks of these metrics. Raises `VitokError`."""
    return {name: weights.resolve_weights(name)[0] for name in required_networks(metrics)}


def missing(metric: Metric) -> str:
    """Return why a metric cannot be measured with the files of this machine, and the way out; empty if it can. Nothing is fetched."""
    if not metric.network or weights.local_file(NETWORKS[metric.network]):
        return ""
    return NETWORKS[metric.network].how
