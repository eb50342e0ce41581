"""How corpora in large files lie: webdataset tars, Parquet (plain, Hugging Face's), IDX."""

import hashlib
import io
import json
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitok.data import files
from vitok.data.layouts import IMAGES, SPLITS, VIDEOS, Found, Listing, hold_out, suffix
from vitok.data.sample import NO_LABEL, RejectedError, Rejection
from vitok.data.splits import Columns, Idx, Members, Rows, idx_array
from vitok.errors import UsageError

MOST_MEMBERS = 20_000_000  # samples of tars whose places one machine should keep in memory
MIXED_GROUPS = 8  # row groups of foreign Parquet that are shuffled together
INDEX = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("label", pa.int32()), ("why", pa.string())])
MEDIA = ("image", "video", "jpg", "jpeg", "png", "webp", "mp4", "img", "bytes", "data", "content")


def webdataset(root: str, listing: Listing) -> Found:
    """Tars whose members share a key: the picture or video, and .cls or .json with a label. Their places are found in one
    pass over the headers and kept in the user's cache."""
    shards = [(name, size) for name, size in listing if suffix(name) == ".tar"]
    with ThreadPoolExecutor(16 if files.is_remote(root) else 4) as pool:
        indices = list(pool.map(lambda item: _tar_index(root, item[0]), shards))
    rejected: list[Rejection] = []
    columns: dict[str, list[pa.Array]] = {name: [] for name in ("name", "shard", "offset", "size", "label")}
    for number, index in enumerate(indices):
        bad = pa.compute.not_equal(index["why"], "")  # pyright: ignore[reportAttributeAccessIssue]
        for row in index.filter(bad).to_pylist():
            rejected.append(Rejection(row["name"], *row["why"].split("\n", 1)))
        good = index.filter(pa.compute.invert(bad))  # pyright: ignore[reportAttributeAccessIssue]
        for name in ("name", "offset", "size", "label"):
            columns[name] += good[name].chunks
        columns["shard"].append(pa.array([number] * len(good), pa.int32()))
    table = pa.table({name: pa.chunked_array(chunks) for name, chunks in columns.items()}).combine_chunks() if indices else pa.table({})
    if table.num_rows > MOST_MEMBERS:
        raise UsageError(f"{root!r} holds {table.num_rows} samples; above {MOST_MEMBERS} run `vitok data ingest` first")
    names = tuple(name for name, _ in shards)
    parts = _part_of([names[shard] for shard in table["shard"].to_pylist()], table["name"].to_pylist())
    train, held = (Members(root, table.filter(pa.array([part == of for part in parts])), names) for of in ("train", "validation"))
    kinds = {suffix(name) for name in table["name"].slice(0, 100).to_pylist()}
    labels = pa.compute.max(table["label"]).as_py() if table.num_rows else None  # pyright: ignore[reportAttributeAccessIssue]
    classes = tuple(map(str, range((NO_LABEL if labels is None else labels) + 1)))
    return Found("video" if kinds & VIDEOS else "image", train, held, classes, rejected=tuple(rejected))


def parquet(root: str, listing: Listing) -> Found:
    """Parquet with a column of encoded files: bytes, or Hugging Face's struct of bytes and path. Groups of rows are read
    whole, so their neighbours are mixed only within a window of groups: `vitok data ingest` makes them mix fully."""
    names = tuple(name for name, _ in listing if suffix(name) == ".parquet")
    metas = [_parquet_meta(files.join(root, name)) for name in names]
    schema = metas[0].schema.to_arrow_schema()
    columns, classes = _columns(root, schema)
    units: list[tuple[int, int, int, int]] = []
    parts: list[str | None] = []
    for number, meta in enumerate(metas):
        for group in range(meta.num_row_groups):
            units.append((number, group, 0, meta.row_group(group).num_rows))
            parts.append(_split_of(names[number]))
    held = "validation" if "validation" in parts else "test"
    if None in parts or not {"train", held} <= set(parts):
        units, parts, held = _hold_out_rows(units)
    splits = [
        Rows(root, names, _units([unit for unit, of in zip(units, parts, strict=True) if of == part]), columns, MIXED_GROUPS)
        for part in ("train", held)
    ]
    kind = "video" if columns.media in ("video", "mp4") else "image"
    return Found(kind, splits[0], splits[1], classes)


def idx(root: str, listing: Listing) -> Found:
    """The MNIST family: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-..., plain or gzipped."""
    at = {PurePosixPath(name).name.removesuffix(".gz"): name for name, _ in listing}
    wanted = [f"{part}-{what}" for part in ("train", "t10k") for what in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if missing := [name for name in wanted if name not in at]:
        raise UsageError(f"{root!r}: an IDX corpus needs {', '.join(missing)}")
    places = [files.join(root, at[name]) for name in wanted]
    try:
        counts = [len(idx_array(place)) for place in places]
    except RejectedError as error:
        raise UsageError(f"{root!r}: {error}") from None
    classes = tuple(map(str, range(int(idx_array(places[1]).max()) + 1)))  # the files name none
    return Found("image", Idx(places[0], places[1], counts[0]), Idx(places[2], places[3], counts[2]), classes)


def _tar_index(root: str, shard: str) -> pa.Table:
    uri = files.join(root, shard)
    key = hashlib.sha256(f"{uri} {files.stamp(uri)}".encode()).hexdigest()[:32]
    kept = files.cache() / "tars" / f"{key}.parquet"
    if kept.is_file():
        return pq.read_table(kept)
    index = _scan(root, shard)
    buffer = io.BytesIO()
    pq.write_table(index, buffer)
    files.write(str(kept), buffer.getvalue())
    return index


def _scan(root: str, shard: str) -> pa.Table:
    """One pass over a tar's headers. What a name or the end of the file makes unusable is a row with a reason."""
    rows: list[dict[str, Any]] = []
    labels: dict[str, int] = {}
    keys: list[str] = []

    def reject(name: str, why: str, detail: str) -> None:
        rows.append({"name": name, "offset": 0, "size": 0, "label": NO_LABEL, "why": f"{why}\n{detail}"})
        keys.append("")

    try:
        with files.open_file(files.join(root, shard)) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                key, _, ending = member.name.partition(".") if "/" not in member.name else _key(member.name)
                if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
                    reject(f"{shard}/{member.name}", "unsafe name", "absolute, or above the archive")
                elif f".{ending.lower()}" in IMAGES | VIDEOS:
                    place = {"name": f"{shard}/{member.name}", "offset": member.offset_data, "size": member.size, "why": ""}
                    rows.append({**place, "label": NO_LABEL})
                    keys.append(key)
                elif ending in ("cls", "json") and (content := tar.extractfile(member)) is not None:
                    label = _label(content.read(), ending)
                    if label is not None:
                        labels[key] = label
    except (tarfile.TarError, OSError, EOFError) as error:
        reject(shard, "truncated" if rows else "corrupt", f"tar: {error}")
    for row, key in zip(rows, keys, strict=True):
        row["label"] = labels.get(key, NO_LABEL)
    return pa.Table.from_pylist(rows, schema=INDEX)


def _key(name: str) -> tuple[str, str, str]:
    """webdataset's rule: the key ends at the first dot of the last part."""
    folder, _, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return f"{folder}/{stem}", dot, ending


def _label(content: bytes, ending: str) -> int | None:
    try:
        if ending == "cls":
            return int(content)
        found: Any = json.loads(content)
        value = found.get("label", found.get("cls"))
        return value if isinstance(value, int) else None
    except (ValueError, AttributeError):
        return None


def _parquet_meta(uri: str) -> pq.FileMetaData:
    try:
        with files.open_file(uri) as file:
            return pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"{uri} is no readable Parquet file: {str(error).splitlines()[0]}") from None


def _columns(root: str, schema: pa.Schema) -> tuple[Columns, tuple[str, ...]]:
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


def _split_of(name: str) -> str | None:
    """train-00000-of-00010.parquet, data/validation/..., as Hugging Face and others name them."""
    for part in reversed(PurePosixPath(name).parts):
        if (word := re.split(r"[-_.0-9]", part.lower())[0]) in SPLITS:
            return SPLITS[word]
    return None


def _part_of(shards: list[str], names: list[str]) -> list[str]:
    found = [_split_of(shard) for shard in shards]
    held = "validation" if "validation" in found else "test"
    if None in found or not {"train", held} <= set(found):
        chosen = hold_out(names)
        return ["validation" if name in chosen else "train" for name in names]
    return ["validation" if part == held else str(part) for part in found]


def _hold_out_rows(units: list[tuple[int, int, int, int]]) -> tuple[list[tuple[int, int, int, int]], list[str | None], str]:
    """No splits in the names: the last tenth of every row group is held out."""
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
