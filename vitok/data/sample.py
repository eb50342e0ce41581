"""One sample before it is decoded, and the record of a sample that cannot be used."""

from dataclasses import dataclass

from vitok.text import printable

NO_LABEL = -1
PHOTOS, MOTION = "sample-photos", "sample-motion"  # the embedded corpora


@dataclass(frozen=True)
class Sample:
    """An encoded image or video with its name and label."""

    name: str  # within the corpus, the same on every node; as it may be shown
    label: int  # index into the corpus's classes, or NO_LABEL
    data: bytes | None = None  # the encoded file; None for a video that is opened where it lies
    uri: str = ""  # where a video lies
    span: tuple[float, float] | None = None  # the part of a longer video that the sample is, seconds
    background: str = ""  # the colour behind transparent pixels; empty: transparency is ignored, as by torchvision's and ADM's loaders


@dataclass(frozen=True)
class Rejection:
    """The record of a sample that cannot be used: its name, a reason of a few words, and a detail."""

    name: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return printable(f"{self.name}: {self.reason}" + (f" ({self.detail})" if self.detail else ""))


@dataclass(frozen=True)
class PassedOver:
    """Files of a corpus that are no samples of it, of one kind: counted, so that nothing lies there unseen."""

    reason: str  # which files, as in "beside train/ and val/"
    count: int
    example: str

    def __str__(self) -> str:
        return printable(f"{self.count} {self.reason} ({'as ' if self.count > 1 else ''}{self.example})")
