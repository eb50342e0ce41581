"""Corpora laid out in a folder, and what is read of them."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from vitok.data.corpora.corpus import Corpus
from vitok.data.corpora.splits import Split
from vitok.data.decoding.image import load


def lay(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def samples(split: Split) -> list[tuple[str, int, bytes]]:
    units = [(i, 1) for i in range(len(split))] if split.units is None else list(enumerate(split.units.tolist()))
    found = [split.get(unit, row) for unit, rows in units for row in range(rows)]
    return [(sample.name, sample.label, sample.data or b"") for sample in found]


def decodes(corpus: Corpus) -> bool:
    return all(load(data, 0).mode == "RGB" for split in (corpus.train, corpus.validation) for *_, data in samples(split))


def tar(path: Path, members: dict[str, bytes] | Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
