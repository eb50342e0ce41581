"""Layouts of corpora packed into files: Parquet (plain or as Hugging Face datasets write it) and IDX (the MNIST family)."""

import json
import re
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitok.data.corpora.folders import SPLITS, Listing, RecognisedCorpus, file_ending
from vitok.data.corpora.splits import Columns, Idx, Rows, idx_array
from vitok.errors import RejectedError, UsageError
from vitok.storage import filesystem

MIXED_GROUPS = 8  # row groups of foreign Parquet that are shuffled together
MEDIA = ("image", "video", "jpg", "jpeg", "png", "webp", "mp4", "img", "bytes", "data", "content")


def parquet(root: str, listing: Listing) -> RecognisedCorpus:
    """Read Parquet files with a column of encoded images or videos: bytes, or Hugging Face's struct of bytes and path.

    Row groups are read whole, and only `MIXED_GROUPS` of them are shuffled together; `vitok data ingest` rewrites a corpus so that
    shuffling is complete. Splits come from the file names (`split_of`), else the last tenth of each row group is held out. Raise
    `UsageError` where a file is not readable or no column fits.
    """
    names = tuple(name for name, _ in listing if file_ending(name) == ".parquet")
    metas = [_parquet_meta(filesystem.join(root, name)) for name in names]
    schema = metas[0].schema.to_arrow_schema()
    columns, classes = _columns(root, schema)
    units: list[tuple[int, int, int, int]] = []
    parts: list[str | None] = []
    for number, meta in enumerate(metas):
        for group in range(meta.num_row_groups):
            units.append((number, group, 0, meta.row_group(group).num_rows))
            parts.append(split_of(names[number]))
    held = "validation" if "validation" in parts else "test"
    if None in parts or not {"train", held} <= set(parts):
        units, parts, held = _hold_out_rows(units)
        files = ()
    else:
        files = tuple(sorted({str(split_of(name)) for name in names}))
    splits = [
        Rows(root, names, _units([unit for unit, of in zip(units, parts, strict=True) if of == part]), columns, MIXED_GROUPS)
        for part in ("train", held)
    ]
    kind = "video" if columns.media in ("video", "mp4") else "image"
    return RecognisedCorpus(kind, splits[0], splits[1], classes, parts=files, read=names)


def idx(root: str, listing: Listing) -> RecognisedCorpus:
    """Read the MNIST family: train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k-... pair, plain or gzipped. Raise
    `UsageError` where a file is missing or damaged."""
    at = {PurePosixPath(name).name.removesuffix(".gz"): name for name, _ in listing}
    wanted = [f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if missing := [name for name in wanted if name not in at]:
        raise UsageError(f"{root!r}: an IDX corpus needs {', '.join(missing)}")
    places = [filesystem.join(root, at[name]) for name in wanted]
    try:
        counts = [len(idx_array(place)) for place in places]
    except RejectedError as error:
        raise UsageError(f"{root!r}: {error}") from None
    classes = tuple(map(str, range(int(idx_array(places[1]).max()) + 1)))  # the files name none
    splits = (Idx(places[0], places[1], counts[0]), Idx(places[2], places[3], counts[2]))
    return RecognisedCorpus("image", *splits, classes, parts=("train", "t10k"), read=tuple(at[name] for name in wanted))


def _parquet_meta(uri: str) -> pq.FileMetaData:
    try:
        with filesystem.open_file(uri) as file:
            return pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{uri} is no readable Parquet file: {str(error).splitlines()[0]}") from None


def _columns(root: str, schema: pa.Schema) -> tuple[Columns, tuple[str, ...]]:
    """Return the columns that hold media, label and name, and the class names that Hugging Face's metadata states."""
    names = set(schema.names)
    fitting = [name for name in MEDIA if name in names and (_binary(schema.field(name).type) or _bytes_and_path(schema.field(name).type))]
    if not fitting:
        raise UsageError(
            f"{root!r}: no column of encoded images or videos among {', '.join(schema.names)}; {' or '.join(MEDIA)} is looked for"
        )
    label = next((n for n in ("label", "cls", "fine_label") if n in names and pa.types.is_integer(schema.field(n).type)), None)
    name = next(
        (n for n in ("source", "name", "file_name", "__key__", "id") if n in names and pa.types.is_string(schema.field(n).type)), None
    )
    features: dict[str, Any] = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    classes = features.get(label or "", {}).get("names", [])
    return Columns(fitting[0], label, name), tuple(classes)


def _binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _bytes_and_path(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def split_of(name: str) -> str | None:
    """Return "train", "validation" or "test" from a path such as train-00000-of-00010.parquet or data/validation/..., else None. The
    last part of the path that names a split counts."""
    for part in reversed(PurePosixPath(name).parts):
        if (word := re.split(r"[-_.0-9]", part.lower())[0]) in SPLITS:
            return SPLITS[word]
    return None


def _hold_out_rows(units: list[tuple[int, int, int, int]]) -> tuple[list[tuple[int, int, int, int]], list[str | None], str]:
    """Divide units (file, group, first row, rows) whose files name no split: the last tenth of every row group is held out."""
    divided: list[tuple[int, int, int, int]] = []
    parts: list[str | None] = []
    for file, group, _, rows in units:
        held = round(rows / 10) if rows > 5 else 0
        divided += [(file, group, 0, rows - held), (file, group, rows - held, held)]
        parts += ["train", "validation"]
    return [u for u in divided if u[3]], [p for u, p in zip(divided, parts, strict=True) if u[3]], "validation"


def _units(rows: list[tuple[int, int, int, int]]) -> pa.Table:
    turned = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    return pa.table({name: pa.array(values, pa.int64()) for name, values in zip(("file", "group", "first", "rows"), turned, strict=True)})
