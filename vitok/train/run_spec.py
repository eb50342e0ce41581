"""The description of a run: one frozen object from a study's cell, or a command line, to the training loop."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitok.config import Resources, Training
from vitok.data.latents.loader import LatentSource
from vitok.data.loading.loader import Source
from vitok.networks.sources import Payload
from vitok.storage.layout import RunFolder, Storage


@dataclass(frozen=True)
class RunSpec:
    """The description of one run. Small, and plain data: it travels to whichever process trains."""

    recipe: Training  # with the hash of the weights that it starts from, which lie in its folder as start.safetensors
    resources: Resources  # with the metrics that can be measured here
    address: str  # of its folder: a path that every node has which runs a worker, or one in a store
    storage_address: str  # of the storage
    storage_identity: str = ""  # empty: whether a node sees the same storage is not asked
    samples: str = ""  # which of the shared sources it trains on
    digest: str = ""  # of recipe and corpus
    label: str = ""  # for people
    run_id: str = ""  # in MLflow

    @property
    def folder(self) -> RunFolder:
        """The run's folder."""
        return RunFolder.at(self.address)

    @property
    def storage(self) -> Storage:
        """The storage that the folder is in."""
        return Storage.at(self.storage_address)


@dataclass(frozen=True)
class RunInputs:
    """Inputs that several runs share: too large to travel with each."""

    sources: Mapping[str, Source | LatentSource]  # by `RunSpec.samples`
    networks: dict[str, Payload] = field(default_factory=dict)  # weights of the networks that losses and metrics look through

    def source(self, spec: RunSpec) -> Source | LatentSource:
        """Return what a run trains on."""
        return self.sources[spec.samples]
