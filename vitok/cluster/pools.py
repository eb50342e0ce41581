"""A pool of equal nodes, whichever file describes it: what rules and prices look at."""

import math
import re
from dataclasses import dataclass, field

UNITS = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3, "Ti": 1024**4}


@dataclass(frozen=True)
class Pool:
    """`where`: its place in the file. Bytes are None where the file does not say."""

    name: str
    where: str
    instance: str | None
    spot: bool
    head: bool
    minimum: int
    maximum: int | None
    cpus: float | None
    gpus: float = 0
    custom: dict[str, float] = field(default_factory=dict)
    object_store: float | None = None  # bytes
    shm: float | None = None  # bytes

    @property
    def offered(self) -> dict[str, float]:
        """The resources that a node offers to Ray: {name: amount}."""
        return {"CPU": self.cpus or 0, "GPU": self.gpus} | self.custom


def size(text: object, docker: bool = False) -> float | None:
    """Return the bytes of a Kubernetes quantity (1Gi, 500m) or, with `docker`, of Docker's (9g is 9 GiB); None if it is neither."""
    text = str(text).strip().strip("'\"")
    if docker:
        found = re.fullmatch(r"(\d+)\s*([bkmgt]?)b?", text.lower())
        return float(found[1]) * 1024.0 ** " kmgt".index(found[2].replace("b", "") or " ") if found else None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|[kMGT]i?|Ki)?", text)
    if not found:
        return None
    return float(found[1]) * (0.001 if found[2] == "m" else UNITS[found[2] or ""])


def shown(amount: float | None) -> str:
    """Return bytes as a text."""
    return "not said" if amount is None else f"{amount / 1e9:.4g} GB" if math.isfinite(amount) else str(amount)
