"""Statistics of reference sets: computed once, kept by what they are of, exchanged with other programs.

A file is an npz with `mu` and `sigma`, as ADM, clean-fid and pytorch-fid write and read them. Ours also say of how many samples and of
what, so that they are never taken for another reference's; one from elsewhere is known by its SHA-256 alone.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from vitok.errors import UsageError
from vitok.metrics.feature_table import FeatureTable
from vitok.metrics.moments import Gaussian
from vitok.networks.registry import NETWORKS
from vitok.storage import atomic, mirror


@dataclass(frozen=True)
class Reference:
    """Samples that others are compared with, and how they are cut."""

    name: str  # corpus and split as they were called, or a file
    fingerprint: str  # of the corpus, and the split; of a file its SHA-256
    views: str  # see `Reader.about`
    size: int  # side, pixels
    frames: int

    @classmethod
    def of_corpus(cls, uri: str, fingerprint: str, part: str, views: str, size: int, frames: int) -> "Reference":
        """Return the reference of a split of a corpus."""
        return cls(f"{uri} {part}", f"{fingerprint}/{part}", views, size, frames)

    def key(self, network: str) -> str:
        """Return the name under which its statistics on a network are kept."""
        text = json.dumps([asdict(self) | {"name": ""}, network, NETWORKS[network].sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Statistics:
    """A folder of them. What is not there is not known."""

    folder: Path

    def find(self, reference: Reference, network: str) -> Gaussian | None:
        """Return the statistics that are kept of a reference on a network; None where there are none."""
        path = mirror.fetch(self._path(reference, network))
        return load(path, network, reference)[0] if path.is_file() else None

    def keep(self, reference: Reference, network: str, gaussian: Gaussian) -> None:
        """Keep the statistics of a reference on a network."""
        export(self._path(reference, network), reference, network, gaussian)

    def find_rows(self, reference: Reference, network: str, wanted: np.ndarray) -> FeatureTable | None:
        """The features of single samples that KID, precision and recall compare with, if all of these are there."""
        path = mirror.fetch(self._path(reference, network).with_suffix(".rows.npz"))
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as file:
            rows = FeatureTable(len(file["slot"]), np.flatnonzero(file["slot"] >= 0), file["rows"].shape[1])
            rows.slot, rows.rows, rows.filled = file["slot"], file["rows"], file["filled"]
        return rows if (rows.slot[wanted] >= 0).all() else None

    def keep_rows(self, reference: Reference, network: str, rows: FeatureTable) -> None:
        """Keep the features of single samples of a reference."""
        buffer = io.BytesIO()
        np.savez(buffer, slot=rows.slot, rows=rows.rows, filled=rows.filled)
        mirror.send(atomic.write(self._path(reference, network).with_suffix(".rows.npz"), buffer.getvalue()))

    def _path(self, reference: Reference, network: str) -> Path:
        return self.folder / f"{network}-{reference.key(network)}.npz"


def export(path: Path, reference: Reference, network: str, gaussian: Gaussian) -> None:
    """Write a file that is whole when it is there."""
    about = asdict(reference) | {"network": network, "weights": NETWORKS[network].sha256, "count": gaussian.count}
    buffer = io.BytesIO()
    np.savez(buffer, mu=gaussian.mean.numpy(), sigma=gaussian.covariance.numpy(), vitok=np.array(json.dumps(about)))
    mirror.send(atomic.write(path, buffer.getvalue()))


def load(path: Path, network: str, wanted: Reference) -> tuple[Gaussian, Reference]:
    """Read statistics from a file, as a reference of the size and frames of `wanted`. Raises `UsageError` for a file of another kind."""
    try:
        data = path.read_bytes()
        if not zipfile.is_zipfile(io.BytesIO(data)):
            raise ValueError("it is no zip archive")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            mean, covariance = torch.from_numpy(file["mu"]).double(), torch.from_numpy(file["sigma"]).double()
            about = json.loads(str(file["vitok"])) if "vitok" in file else None
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is no file of statistics (an npz with mu and sigma): {str(error).splitlines()[0]}") from None
    if covariance.shape != (len(mean), len(mean)):
        raise UsageError(f"{path}: mu of {tuple(mean.shape)} and sigma of {tuple(covariance.shape)} do not go together")
    if about is None:
        found = Reference(path.name, hashlib.sha256(data).hexdigest()[:16], "as in the file", wanted.size, wanted.frames)
        return Gaussian(0, mean, covariance), found
    theirs = {"network": about.pop("network"), "weights": about.pop("weights")[:16]}
    count, found = about.pop("count"), Reference(**about)
    theirs |= {"views": found.views, "size": found.size, "frames": found.frames}
    ours = {"network": network, "weights": NETWORKS[network].sha256[:16]}
    ours |= {"views": wanted.views, "size": wanted.size, "frames": wanted.frames}
    if differing := [f"{name} {theirs[name]} there, {ours[name]} here" for name in ours if theirs[name] != ours[name]]:
        raise UsageError(f"{path} are statistics of another kind: {'; '.join(differing)}")
    return Gaussian(count, mean, covariance), found
