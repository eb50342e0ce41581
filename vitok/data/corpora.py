"""What exists: a corpus is a list of photographs, split by whole photographs into train and validation.

`sample-photos` is made of the photographs that scikit-image and scikit-learn ship in their wheels, so it is on every
machine that can run this. Any folder of images is a corpus too. Nothing is decoded here.
"""

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from vitok.errors import UsageError

SAMPLE = "sample-photos"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VALIDATION_SHARE = 0.1  # of a folder's files

# Photographs only: no drawings, text or synthetic patterns. motorcycle_right is left out, being motorcycle_left
# from a few centimetres aside. The held-out four are an animal, a still life, architecture and a machine.
SAMPLE_TRAIN = (
    "skimage/data/astronaut.png", "skimage/data/brick.png", "skimage/data/camera.png", "skimage/data/coins.png",
    "skimage/data/grass.png", "skimage/data/gravel.png", "skimage/data/hubble_deep_field.jpg", "skimage/data/ihc.png",
    "skimage/data/moon.png", "skimage/data/motorcycle_left.png", "skimage/data/retina.jpg",
    "sklearn/datasets/images/flower.jpg",
)  # fmt: skip
SAMPLE_VALIDATION = (
    "skimage/data/chelsea.png", "skimage/data/coffee.png", "skimage/data/rocket.jpg", "sklearn/datasets/images/china.jpg",
)  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """Names are relative to the corpus, so that they mean the same on every node; `path` finds the file on this one."""

    uri: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    fingerprint: str  # SHA-256 over the split, the names and the file sizes, 16 hex digits

    def path(self, name: str) -> Path:
        return locate(self.uri, name)


def open_corpus(uri: str) -> Corpus:
    """The corpus at `uri`: "sample-photos" or a folder. Raises `UsageError` for one that is missing, unreadable or too small."""
    if uri == SAMPLE:
        return _corpus(uri, SAMPLE_TRAIN, SAMPLE_VALIDATION)
    root = Path(uri).expanduser().resolve()
    if not root.is_dir():
        raise UsageError(f"corpus {uri!r} is not a folder; give a folder of images or {SAMPLE!r}")
    names = _images(root)
    if len(names) < 2:
        raise UsageError(
            f"corpus {uri!r} holds {len(names)} image(s) ({', '.join(sorted(SUFFIXES))}); "
            "it takes two at least, one to train on and one to hold out"
        )
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    held_out = set(ranked[: max(1, round(VALIDATION_SHARE * len(names)))])
    train = tuple(name for name in names if name not in held_out)
    return _corpus(str(root), train, tuple(sorted(held_out)))


def locate(uri: str, name: str) -> Path:
    """The file of a photograph on this machine."""
    if uri != SAMPLE:
        return Path(uri) / name
    package, _, rest = name.partition("/")
    spec = importlib.util.find_spec(package)  # finds the folder without importing the package
    if spec is None or spec.origin is None:
        raise UsageError(f"{SAMPLE} needs the package that provides {package!r}: pip install scikit-image scikit-learn")
    return Path(spec.origin).parent / rest


def _images(root: Path) -> list[str]:
    names: list[str] = []

    def refuse(error: OSError) -> None:
        raise UsageError(f"corpus folder {error.filename!r} cannot be read: {error.strerror}")

    for folder, _, files in os.walk(root, onerror=refuse):
        here = Path(folder).relative_to(root)
        names += [(here / file).as_posix() for file in files if Path(file).suffix.lower() in SUFFIXES]
    return sorted(names)


def _corpus(uri: str, train: tuple[str, ...], validation: tuple[str, ...]) -> Corpus:
    digest = hashlib.sha256()
    for split, names in (("train", train), ("validation", validation)):
        for name in names:
            path = locate(uri, name)
            try:
                size = path.stat().st_size
            except OSError as error:
                raise UsageError(f"corpus {uri!r}: {path} cannot be read: {error.strerror}") from None
            digest.update(f"{split}\0{name}\0{size}\n".encode())
    return Corpus(uri, train, validation, digest.hexdigest()[:16])
