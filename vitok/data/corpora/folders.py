"""Layouts of corpora made of loose files: image folders, ImageNet-1K, COCO, video folders, UCF-101, Kinetics.

Each layout is a function that takes the root and the list of files below it and returns a `RecognisedCorpus`: both splits, with labels.
"""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from vitok.data.corpora.splits import Files, Kind, Split
from vitok.data.sample import NO_LABEL, Rejection
from vitok.errors import UsageError
from vitok.storage import filesystem

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
VIDEOS = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts"}
HELD_OUT, MOST_HELD_OUT = 0.1, 50_000  # of a corpus that has no validation split of its own
SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
Listing = list[tuple[str, int]]


@dataclass(frozen=True)
class RecognisedCorpus:
    """The result of reading a layout: splits, labels and class names, before fingerprint and URI make a `Corpus` of them."""

    kind: Kind
    train: Split
    validation: Split
    classes: tuple[str, ...] = ()
    fingerprint: str = ""  # where the corpus states its own
    notes: tuple[str, ...] = ()  # for people
    rejected: tuple[Rejection, ...] = field(default=(), compare=False)  # samples that were found unusable without being read


def file_ending(name: str) -> str:
    """Return the ending of a file name in lower case, with its dot (".jpg")."""
    return PurePosixPath(name).suffix.lower()


def folder(root: str, listing: Listing, kind: Kind) -> RecognisedCorpus:
    """Read a folder of images or videos at any depth (as torchvision's ImageFolder, with optional splits).

    A first folder called train, val, validation or test is a split, if every file has one. The next folder is the class, if every file
    has one and there are at least two classes; otherwise there are no labels. Without splits, see `divide`.
    """
    endings = IMAGES if kind == "image" else VIDEOS
    items = [(name, size) for name, size in listing if file_ending(name) in endings]
    splits, rest = _split_folders([name for name, _ in items])
    firsts = [name.partition("/")[0] if "/" in name else None for name in rest]
    classes = tuple(sorted({first for first in firsts if first is not None}))
    if None in firsts or len(classes) < 2:
        classes = ()
    number = {name: i for i, name in enumerate(classes)}
    rows = [(name, size, number.get(first or "", NO_LABEL)) for (name, size), first in zip(items, firsts, strict=True)]
    train, validation = divide(rows, splits)
    return RecognisedCorpus(kind, Files(root, train, kind), Files(root, validation, kind), classes)


def imagenet(root: str, listing: Listing) -> RecognisedCorpus:
    """Read ImageNet-1K (ILSVRC 2012): train/<wnid>/*, and val/ either with one folder per wnid or flat with a mapping file.

    A mapping file is LOC_val_solution.csv, or a text file val*.txt whose lines hold a file name and a wnid or class number. The folders
    may lie anywhere below the root, as in Kaggle's ILSVRC/Data/CLS-LOC. Raise `UsageError` where either split has no images.
    """
    train = [(name, size, match[1]) for name, size in listing if (match := re.search(r"(?:^|/)train/(n\d{8})/[^/]+$", name))]
    held = [(name, size) for name, size in listing if re.search(r"(?:^|/)val/", name) and file_ending(name) in IMAGES]
    wnids = sorted({wnid for *_, wnid in train})
    number = {wnid: i for i, wnid in enumerate(wnids)}
    mapping = _imagenet_mapping(root, listing, wnids) if any(not re.search(r"/n\d{8}/[^/]+$", name) for name, _ in held) else {}
    rows: list[tuple[str, int, int]] = []
    missing = 0
    for name, size in held:
        match = re.search(r"/(n\d{8})/[^/]+$", name)
        label = number.get(match[1] if match else mapping.get(PurePosixPath(name).stem, ""), NO_LABEL)
        missing += label == NO_LABEL
        rows.append((name, size, label))
    notes = (f"{missing} of {len(rows)} validation images have no label",) if missing else ()
    if not train or not rows:
        raise UsageError(f"{root!r}: ImageNet-1K needs train/<wnid>/ and val/; {len(train)} and {len(rows)} images found there")
    rows_train = [(name, size, number[wnid]) for name, size, wnid in train]
    readable = _synsets(root, listing)
    classes = tuple(readable.get(wnid, wnid) for wnid in wnids)
    return RecognisedCorpus("image", Files(root, table(rows_train), "image"), Files(root, table(rows), "image"), classes, notes=notes)


def coco(root: str, listing: Listing) -> RecognisedCorpus:
    """Read COCO-2017: train2017/ and val2017/. No labels are given, because COCO's annotations describe objects, not whole images. Raise
    `UsageError` where a split is missing."""
    parts = {part: [(n, s, NO_LABEL) for n, s in listing if n.startswith(f"{part}/")] for part in ("train2017", "val2017")}
    if not all(parts.values()):
        raise UsageError(f"{root!r}: COCO-2017 needs train2017/ and val2017/ with images")
    return RecognisedCorpus("image", Files(root, table(parts["train2017"]), "image"), Files(root, table(parts["val2017"]), "image"))


def ucf101(root: str, listing: Listing, split: int = 1) -> RecognisedCorpus:
    """Read UCF-101 with its official lists: classInd.txt, trainlist0N.txt and testlist0N.txt, where N is `split` (1 to 3). Videos may
    lie anywhere below the root. Raise `UsageError` where a list is missing."""
    lists = {PurePosixPath(name).name: name for name, _ in listing if name.endswith(".txt")}
    wanted = ("classInd.txt", f"trainlist{split:02d}.txt", f"testlist{split:02d}.txt")
    if missing := [name for name in wanted if name not in lists]:
        raise UsageError(f"{root!r}: UCF-101 needs its split files (ucfTrainTestlist); missing: {', '.join(missing)}")
    text = {name: filesystem.read(filesystem.join(root, lists[name])).decode().split("\n") for name in wanted}
    classes = tuple(line.split()[1] for line in text["classInd.txt"] if line.strip())
    number = {name: i for i, name in enumerate(classes)}
    at = {PurePosixPath(name).name: (name, size) for name, size in listing if file_ending(name) in VIDEOS}
    parts: list[list[tuple[str, int, int]]] = []
    absent = 0
    for part in wanted[1:]:
        names = [line.split()[0] for line in text[part] if line.strip()]
        known = [name for name in names if PurePosixPath(name).name in at]
        absent += len(names) - len(known)
        parts.append([(*at[PurePosixPath(name).name], number[name.split("/")[0]]) for name in known])
    notes = (f"{absent} videos of the lists are not there",) if absent else ()
    return RecognisedCorpus("video", Files(root, table(parts[0]), "video"), Files(root, table(parts[1]), "video"), classes, notes=notes)


def kinetics(root: str, listing: Listing) -> RecognisedCorpus:
    """Read Kinetics-400/600/700: CSV annotations with the columns label, youtube_id, time_start, time_end.

    A CSV whose name begins with train or val is that split. Videos lie anywhere below the root, named <id>.* (whole: only the annotated
    span is used) or <id>_<start>_<end>.* (already cut). Raise `UsageError` where a CSV or a column is missing.
    """
    at: dict[str, tuple[str, int]] = {PurePosixPath(name).stem: (name, size) for name, size in listing if file_ending(name) in VIDEOS}
    tables = [name for name, _ in listing if name.endswith(".csv") and PurePosixPath(name).name.startswith(("train", "val"))]
    lines: list[tuple[str, dict[str, str]]] = []
    for name in sorted(tables):
        part = "train" if PurePosixPath(name).name.startswith("train") else "validation"
        reader = csv.DictReader(io.StringIO(filesystem.read(filesystem.join(root, name)).decode()))
        if lost := {"label", "youtube_id", "time_start", "time_end"} - set(reader.fieldnames or ()):
            raise UsageError(f"{root!r}: {name} has no column {', '.join(sorted(lost))}")
        lines += [(part, line) for line in reader]
    if {part for part, _ in lines} != {"train", "validation"}:
        raise UsageError(f"{root!r}: Kinetics needs train*.csv and val*.csv with rows")
    classes = tuple(sorted({line["label"] for _, line in lines}))
    number = {name: i for i, name in enumerate(classes)}
    rows: dict[str, list[tuple[str, int, int, float | None, float | None]]] = {"train": [], "validation": []}
    absent = 0
    for part, line in lines:
        start, stop = float(line["time_start"]), float(line["time_end"])
        cut = at.get(f"{line['youtube_id']}_{int(start):06d}_{int(stop):06d}")
        whole = at.get(line["youtube_id"])
        if cut:
            rows[part].append((*cut, number[line["label"]], None, None))
        elif whole:
            rows[part].append((*whole, number[line["label"]], start, stop))
        else:
            absent += 1
    notes = (f"{absent} of {len(lines)} annotated videos are not there",) if absent else ()
    parts = [Files(root, table(rows[part]), "video") for part in ("train", "validation")]
    return RecognisedCorpus("video", parts[0], parts[1], classes, notes=notes)


def divide(rows: list[tuple[str, int, int]], splits: list[str | None]) -> tuple[pa.Table, pa.Table]:
    """Return the tables of (train, validation) from rows (name, bytes, label) and the split of each row.

    Validation is the test split where there is no validation split. Without usable splits, samples are held out by `hold_out`.
    """
    present = set(splits)
    held = "validation" if "validation" in present else "test"
    if None in present or not {"train", held} <= present:
        chosen = hold_out([row[0] for row in rows])
        return table([r for r in rows if r[0] not in chosen]), table([r for r in rows if r[0] in chosen])
    return tuple(table([row for row, of in zip(rows, splits, strict=True) if of == part]) for part in ("train", held))  # pyright: ignore[reportReturnType]


def hold_out(names: Iterable[str]) -> set[str]:
    """Return the names that are held out for validation: the first tenth by SHA-256 of the name, at least 1, at most 50,000."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ranked[: min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(ranked))))])


def table(rows: list[Any]) -> pa.Table:
    """Return the Arrow table of a `Files` split from rows (name, bytes, label[, start, stop]), sorted by name; start and stop in
    seconds."""
    columns = [("name", pa.string()), ("size", pa.int64()), ("label", pa.int32()), ("start", pa.float64()), ("stop", pa.float64())]
    wide = columns[: len(rows[0])] if rows else columns[:3]
    turned = zip(*sorted(rows, key=lambda row: row[0]), strict=True) if rows else [[] for _ in wide]
    return pa.table({name: pa.array(values, kind) for (name, kind), values in zip(wide, turned, strict=True)})


def _split_folders(names: list[str]) -> tuple[list[str | None], list[str]]:
    """Return (split of each name, names without the split's folder). Splits are None unless every name begins with one."""
    firsts = [name.partition("/")[0].lower() if "/" in name else "" for name in names]
    if names and all(first in SPLITS for first in firsts):
        return [SPLITS[first] for first in firsts], [name.partition("/")[2] for name in names]
    return [None] * len(names), names


def _imagenet_mapping(root: str, listing: Listing, wnids: list[str]) -> dict[str, str]:
    """Return {file stem of a validation image: wnid} from the mapping files below the root (see `imagenet`)."""
    found: dict[str, str] = {}
    for name, _ in listing:
        if not re.search(r"(?:^|/)(LOC_val_solution\.csv|(?:imagenet_)?val[^/]*\.txt)$", name):
            continue
        for line in filesystem.read(filesystem.join(root, name)).decode().splitlines():
            image, _, rest = line.replace(",", " ").strip().partition(" ")
            word = rest.split()[0] if rest.split() else ""
            if word.isdigit() and int(word) < len(wnids):
                word = wnids[int(word)]
            if re.fullmatch(r"n\d{8}", word):
                found[PurePosixPath(image).stem] = word
    return found


def _synsets(root: str, listing: Listing) -> dict[str, str]:
    for name, _ in listing:
        if name.endswith("LOC_synset_mapping.txt"):
            lines = filesystem.read(filesystem.join(root, name)).decode().splitlines()
            return {line[:9]: line[10:].split(",")[0] for line in lines if line.strip()}
    return {}
