"""How a value was measured: all that must be equal before two of them may be compared."""

import hashlib
import json
import subprocess
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

TOLD = ("reference", "code")


@dataclass(frozen=True)
class Protocol:
    metric: str
    network: str  # that looks at the images; empty where none does
    weights: str  # its SHA-256, as `vitok weights list` shows it
    prepared: str  # what is done to pixels before the network, or the formula, sees them
    reference: str  # the corpus and its split, or the file of statistics, as it was called
    fingerprint: str  # of the reference: what it is, wherever it lies
    views: str  # how samples are cut: crop, resize, frames
    size: int  # side, pixels
    frames: int
    count: int  # values that went in: images, frames or clips
    settings: str  # of the statistic: splits, subsets, divisor of the covariance
    seed: int  # of splits and subsets
    code: str  # version and commit

    @property
    def digest(self) -> str:
        """Two values with one digest are comparable. Where the reference lay and the code's version are told, and do not part them."""
        fields = {name: value for name, value in asdict(self).items() if name not in TOLD}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def json(self) -> str:
        return json.dumps(asdict(self) | {"digest": self.digest})

    @classmethod
    def parse(cls, text: str) -> "Protocol":
        fields = json.loads(text)
        fields.pop("digest", None)
        return cls(**fields)

    def differs(self, other: "Protocol") -> str:
        """In what two protocols differ, in words; empty where their values are comparable."""
        mine, theirs = asdict(self), asdict(other)
        return "; ".join(f"{name} {mine[name]} and {theirs[name]}" for name in mine if name not in TOLD and mine[name] != theirs[name])


def code_version() -> str:
    """vitok's version and its commit."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{version('vitok')} {commit()}"
    except PackageNotFoundError:  # runs from a folder that was never installed
        return commit()


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit of the code that runs, with "+" if it was changed since; "unknown" outside a checkout."""
    import vitok

    try:
        described = subprocess.run(
            ["git", "-C", str(Path(vitok.__file__).parent), "describe", "--always", "--dirty=+", "--abbrev=12"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return described.stdout.strip() or "unknown"
