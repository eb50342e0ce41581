"""Protocol of a measured value: everything that must be equal before two values may be compared."""

import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

NOTES = ("reference", "code")


@dataclass(frozen=True)
class Protocol:
    """Network, reference set, views, counts and settings that a value was measured with."""

    metric: str
    network: str  # feature network; empty for a formula on pixels
    weights: str  # SHA-256 of the network's weights, as `vitok weights list` shows it
    prepared: str  # preprocessing of the pixels
    reference: str  # name of the corpus and its split, or of the file of statistics
    fingerprint: str  # identity of the reference, wherever it is stored
    views: str  # crop, resize and frames of a sample
    size: int  # side, pixels
    frames: int
    count: int  # number of images, frames or clips
    settings: str  # settings of the statistic: splits, subsets, divisor of the covariance
    seed: int  # seed of splits and subsets
    code: str  # version and commit

    @property
    def digest(self) -> str:
        """A hash of 16 hex digits; values of equal digests are comparable. The reference's name and the code's version do not enter it."""
        fields = {name: value for name, value in asdict(self).items() if name not in NOTES}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def json(self) -> str:
        """Return the protocol as a JSON text, with its digest."""
        return json.dumps(asdict(self) | {"digest": self.digest})

    @classmethod
    def parse(cls, text: str) -> "Protocol":
        """Return the protocol that `json` wrote."""
        fields = json.loads(text)
        fields.pop("digest", None)
        return cls(**fields)

    def differs(self, other: "Protocol") -> str:
        """Describe the fields in which two protocols differ; "" if their values are comparable."""
        mine, theirs = asdict(self), asdict(other)
        return "; ".join(f"{name} {mine[name]} and {theirs[name]}" for name in mine if name not in NOTES and mine[name] != theirs[name])


def code_version() -> str:
    """Return vitok's version and its commit."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{version('vitok')} {commit()}"
    except PackageNotFoundError:  # runs from a folder that was never installed
        return commit()


@lru_cache(maxsize=1)
def commit() -> str:
    """Return the commit of the running code, with "+" if files were changed since; "unknown" outside a checkout."""
    import vitok

    try:
        described = subprocess.run(
            ["git", "-C", str(Path(vitok.__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"
