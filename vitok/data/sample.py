"""One sample before it is decoded, and the record of a sample that cannot be used."""

from dataclasses import dataclass

NO_LABEL = -1
PHOTOS, MOTION = "sample-photos", "sample-motion"  # the embedded corpora


@dataclass(frozen=True)
class Sample:
    """An encoded image or video with its name and label."""

    name: str  # within the corpus, the same on every node
    label: int  # index into the corpus's classes, or NO_LABEL
    data: bytes | None = None  # the encoded file; None for a video that is opened where it lies
    uri: str = ""  # where a video lies
    span: tuple[float, float] | None = None  # the part of a longer video that the sample is, seconds


@dataclass(frozen=True)
class Rejection:
    """The record of a sample that cannot be used: its name, a reason of a few words, and a detail."""

    name: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" + (f" ({self.detail})" if self.detail else "")
