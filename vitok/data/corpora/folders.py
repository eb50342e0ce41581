"""Layouts of corpora made of loose files: image folders, ImageNet-1K, COCO, video folders, UCF-101, Kinetics.

Each layout is a function that takes the root and the list of files below it and returns a `RecognisedCorpus`: both splits, with labels.
"""

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from vitok.data.corpora.splits import Files, Kind, Split
from vitok.data.sample import NO_LABEL, PassedOver, Rejection
from vitok.errors import UsageError
from vitok.storage import filesystem
from vitok.text import printable

# What Pillow reads of itself, and (PLUGINS) with a package beside it. Not: EPS and WMF, which run other programs.
IMAGES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".avif", ".avifs", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".tga", ".qoi",
    ".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx", ".sgi", ".rgb", ".dds", ".psd",
    ".heic", ".heif", ".hif", ".jxl",
}  # fmt: skip
VIDEOS = {".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".ts"}
SYNSETS = "LOC_synset_mapping.txt"
HELD_OUT, MOST_HELD_OUT = 0.1, 50_000  # of a corpus that has no validation split of its own
PATHS = ("path", "file", "file_name", "filename", "filepath", "file_path", "video", "video_path", "image", "image_path", "name")
LABELS = ("label", "class", "class_name", "label_name", "category", "target", "label_id", "class_id")
FEW = 0.1  # loose files beside class folders, of all: fewer are no part of the corpus, more mean that the folders are no classes
SYSTEM = {"__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"}
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
    parts: tuple[str, ...] = ()  # what tells training samples from held-out ones, as folders or lists; empty: `hold_out` does
    read: tuple[str, ...] = ()  # files that are no samples themselves: lists, shards
    ignored: dict[str, str] = field(default_factory=dict)  # file -> why it is no sample, where its ending does not say so
    passed_over: tuple[PassedOver, ...] = ()  # what was passed over inside of archives


def file_ending(name: str) -> str:
    """Return the ending of a file name in lower case, with its dot (".jpg")."""
    return PurePosixPath(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Return whether a file lies in a hidden folder or one of an operating system's own, or is such a file: it is never content."""
    return any((part.startswith(".") and part not in (".", "..")) or part in SYSTEM for part in name.split("/"))


def folder(root: str, listing: Listing, kind: Kind) -> RecognisedCorpus:
    """Read a folder of images or videos at any depth (as torchvision's ImageFolder, with optional splits).

    First folders called train and val (or validation, test) are the splits; what lies beside them is passed over. The next folder is the
    class, if there are at least two and almost every file lies in one (`FEW`): loose files are then passed over. Otherwise there are no
    labels. Without splits, see `divide`.
    """
    endings = IMAGES if kind == "image" else VIDEOS
    items = [(name, size) for name, size in listing if file_ending(name) in endings]
    splits, rest, ignored = _split_folders([name for name, _ in items])
    inside = [(item, of, name) for item, of, name in zip(items, splits, rest, strict=True) if item[0] not in ignored]
    found = sorted({name.partition("/")[0] for _, _, name in inside if "/" in name})
    classes: tuple[str, ...] = tuple(found) if len(found) >= 2 else ()
    divided = {part for _, part, name in inside if "/" in name}  # of a split without folders every sample is loose, and used
    loose = [item[0] for item, part, name in inside if "/" not in name and part in divided]
    notes: list[str] = []
    if classes and len(loose) > max(1, FEW * len(inside)):
        classes, notes = (), [f"no labels: {len(loose)} of {len(inside)} {kind}s lie in no folder of a class"]
    if classes:
        ignored |= dict.fromkeys(loose, f"{kind}(s) beside the folders of classes")
        flat = sum(part not in divided for _, part, _ in inside)
        notes += [f"{flat} {kind}(s) have no label: their split has no folders of classes"] * (flat > 0)
    number = {name: i for i, name in enumerate(classes)}
    rows = [(*item, number.get(name.partition("/")[0], NO_LABEL)) for item, _, name in inside if item[0] not in ignored]
    of = [split for item, split, _ in inside if item[0] not in ignored]
    train, validation = divide(rows, of)
    held = "validation" if "validation" in of else "test"
    if "train" in of and held in of:
        if "test" in of and held == "validation":
            ignored |= {
                row[0]: f"{kind}(s) of the test split: the validation split is what is held out"
                for row, part in zip(rows, of, strict=True)
                if part == "test"
            }
        alone = sorted(set(validation["label"].to_pylist()) - set(train["label"].to_pylist()) - {NO_LABEL})
        if classes and alone:
            notes.append(
                f"held-out {kind}s are of {len(alone)} class(es) that none is trained on: " + _some([classes[one] for one in alone])
            )
    parts = tuple(dict.fromkeys(f"{item[0].partition('/')[0]}/" for item, part, _ in inside if part in ("train", held)))
    return RecognisedCorpus(
        kind, Files(root, train, kind), Files(root, validation, kind), classes, notes=tuple(notes),
        parts=parts if "train" in of and held in of else (), ignored=ignored,
    )  # fmt: skip


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
    lists = tuple(name for name, _ in listing if _is_mapping(name) or name.endswith(SYNSETS))
    return RecognisedCorpus(
        "image", Files(root, table(rows_train), "image"), Files(root, table(rows), "image"), classes, notes=notes, parts=("train/", "val/"),
        read=lists,
    )  # fmt: skip


def coco(root: str, listing: Listing) -> RecognisedCorpus:
    """Read COCO-2017: train2017/ and val2017/. No labels are given, because COCO's annotations describe objects, not whole images. Raise
    `UsageError` where a split is missing."""
    images = [(name, size, NO_LABEL) for name, size in listing if file_ending(name) in IMAGES]
    parts = {part: [row for row in images if row[0].startswith(f"{part}/")] for part in ("train2017", "val2017")}
    if not all(parts.values()):
        raise UsageError(f"{root!r}: COCO-2017 needs train2017/ and val2017/ with images")
    splits = [Files(root, table(rows), "image") for rows in parts.values()]
    return RecognisedCorpus("image", splits[0], splits[1], parts=("train2017/", "val2017/"))


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
    return RecognisedCorpus(
        "video", Files(root, table(parts[0]), "video"), Files(root, table(parts[1]), "video"), classes, notes=notes, parts=wanted[1:],
        read=tuple(lists.values()),
    )  # fmt: skip


def lists(root: str, listing: Listing) -> RecognisedCorpus:
    """Read lists of files with their labels: train*.csv, and val*.csv or test*.csv where there is one; without, `hold_out` divides.

    A list has a header with a column of paths (`PATHS`) and one of labels (`LABELS`), or none and lines of a path and a label, separated
    by commas, tabs or spaces. Paths are relative to the root or to the list; labels are names or numbers of classes. Raise `UsageError`
    where a list is neither.
    """
    sizes = dict(listing)
    rows: list[tuple[str, int, str]] = []
    of: list[str | None] = []
    absent = 0
    tables = list_files(listing)
    for name in tables:
        beside = PurePosixPath(name).parent
        for path, label in _list_rows(root, name, sizes):
            found = next((one for one in (path, str(beside / path)) if one in sizes), None)
            if found is None:
                absent += 1
                continue
            rows.append((found, sizes[found], label))
            of.append(SPLITS[_split_word(name)])
    labels = {label for *_, label in rows}
    numbered = bool(labels) and all(label.isdecimal() for label in labels)
    classes = tuple(str(n) for n in range(max(map(int, labels)) + 1)) if numbered else tuple(sorted(labels))
    number = {name: i for i, name in enumerate(classes)}
    kind: Kind = "video" if any(file_ending(name) in VIDEOS for name, *_ in rows) else "image"
    train, validation = divide([(name, size, number[str(int(label)) if numbered else label]) for name, size, label in rows], of)
    notes = (f"{absent} of {absent + len(rows)} listed files are not there",) if absent else ()
    parts = tuple(tables) if len(set(of)) > 1 else ()
    return RecognisedCorpus(
        kind, Files(root, train, kind), Files(root, validation, kind), classes, notes=notes, parts=parts, read=tuple(tables)
    )


def list_files(listing: Listing) -> list[str]:
    """Return the CSV files whose names begin with a split's."""
    return sorted(name for name, _ in listing if name.endswith(".csv") and _split_word(name) in SPLITS)


def list_layout(root: str, listing: Listing) -> str | None:
    """Return the layout of the lists of a folder: "kinetics", "lists", or None where they are neither."""
    sizes = dict(listing)
    for name in list_files(listing)[:1]:
        header = _lines(root, name)[:1]
        if header and "youtube_id" in header[0]:
            return "kinetics"
        try:
            return "lists" if next(_list_rows(root, name, sizes), None) else None
        except UsageError:
            return None
    return None


def _split_word(name: str) -> str:
    return re.split(r"[-_.0-9]", PurePosixPath(name).name.lower())[0]


def _lines(root: str, name: str) -> list[list[str]]:
    """Return the rows of a list, cut at commas, else at tabs, else at the last space."""
    text = filesystem.read(filesystem.join(root, name)).decode("utf-8-sig", "surrogateescape")
    lines = [line for line in text.splitlines() if line.strip()]
    for mark in (",", "\t"):
        if lines and mark in lines[0]:
            return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=mark)]
    return [[cell.strip() for cell in line.rsplit(maxsplit=1)] for line in lines]


def _list_rows(root: str, name: str, sizes: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (path, label) of the rows of a list. Raise `UsageError` for a list of something else."""
    rows = _lines(root, name)
    header = [cell.lower() for cell in rows[0]] if rows else []
    path, label = (next((header.index(column) for column in columns if column in header), None) for columns in (PATHS, LABELS))
    if path is not None and label is not None:
        rows = rows[1:]
    elif len(header) == 2 and any(one in sizes for one in (rows[0][0], str(PurePosixPath(name).parent / rows[0][0]))):
        path, label = 0, 1
    else:
        raise UsageError(
            f"{root!r}: {name} has the columns {', '.join(map(printable, header[:8]))}; a list of files has path and label, Kinetics' has "
            "label, youtube_id, time_start and time_end; images: or videos: before the path reads the folder without it"
        )
    yield from ((row[path], row[label]) for row in rows if len(row) > max(path, label))


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
            raise UsageError(
                f"{root!r}: {name} has no column {', '.join(sorted(lost))} (lists: before the path reads a list of path and label)"
            )
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
    return RecognisedCorpus("video", parts[0], parts[1], classes, notes=notes, parts=tuple(sorted(tables)), read=tuple(tables))


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
    ranked = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    return set(ranked[: min(MOST_HELD_OUT, max(1, round(HELD_OUT * len(ranked))))])


def table(rows: list[Any]) -> pa.Table:
    """Return the Arrow table of a `Files` split from rows (name, bytes, label[, start, stop]), sorted by name; start and stop in
    seconds."""
    columns = [("name", pa.string()), ("size", pa.int64()), ("label", pa.int32()), ("start", pa.float64()), ("stop", pa.float64())]
    wide = columns[: len(rows[0])] if rows else columns[:3]
    turned = zip(*sorted(rows, key=lambda row: row[0]), strict=True) if rows else [[] for _ in wide]
    return pa.table({name: _column(values, kind) for (name, kind), values in zip(wide, turned, strict=True)})


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:  # file names that are no UTF-8: their bytes
        return pa.array([os.fsencode(value) for value in values], pa.binary())


def _split_folders(names: list[str]) -> tuple[list[str | None], list[str], dict[str, str]]:
    """Return (split of each name, names without the split's folder, the reasons of those that lie beside the splits).

    First folders are splits where one is called train and another val, validation or test, or where there are no folders beside them. A
    folder train alone, among others, is taken for a class.
    """
    firsts = [name.partition("/")[0] if "/" in name else "" for name in names]
    of = [SPLITS.get(first.lower()) for first in firsts]
    there = {part for part in of if part}
    both = "train" in there and len(there) > 1
    if not both and not (there and all(part or not first for part, first in zip(of, firsts, strict=True))):
        return [None] * len(names), names, {}
    beside = " and ".join(sorted({f"{first}/" for first, part in zip(firsts, of, strict=True) if part}))
    ignored = {name: f"file(s) beside {beside}" for name, part in zip(names, of, strict=True) if not part}
    return of, [name.partition("/")[2] if part else name for name, part in zip(names, of, strict=True)], ignored


def _some(names: Sequence[str], most: int = 5) -> str:
    """Return the first few of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _imagenet_mapping(root: str, listing: Listing, wnids: list[str]) -> dict[str, str]:
    """Return {file stem of a validation image: wnid} from the mapping files below the root (see `imagenet`)."""
    found: dict[str, str] = {}
    for name, _ in listing:
        if not _is_mapping(name):
            continue
        for line in filesystem.read(filesystem.join(root, name)).decode().splitlines():
            image, _, rest = line.replace(",", " ").strip().partition(" ")
            word = rest.split()[0] if rest.split() else ""
            if word.isdigit() and int(word) < len(wnids):
                word = wnids[int(word)]
            if re.fullmatch(r"n\d{8}", word):
                found[PurePosixPath(image).stem] = word
    return found


def _is_mapping(name: str) -> bool:
    return bool(re.search(r"(?:^|/)(LOC_val_solution\.csv|(?:imagenet_)?val[^/]*\.txt)$", name))


def _synsets(root: str, listing: Listing) -> dict[str, str]:
    for name, _ in listing:
        if name.endswith(SYNSETS):
            lines = filesystem.read(filesystem.join(root, name)).decode().splitlines()
            return {line[:9]: line[10:].split(",")[0] for line in lines if line.strip()}
    return {}
