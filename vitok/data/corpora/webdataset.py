"""WebDataset tars: members that share a key are one sample, with a .cls or .json member for its label.

Tars of up to `MOST_MEMBERS` samples are streamed in place, through an index of all members. Larger ones must be ingested first, which
reads them tar by tar without an index.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitok.data.corpora.folders import IMAGES, VIDEOS, Listing, RecognisedCorpus, file_ending, hold_out
from vitok.data.corpora.parquet import split_of
from vitok.data.corpora.splits import Kind, Members
from vitok.data.sample import NO_LABEL, Rejection, Sample
from vitok.errors import RejectedError, UsageError
from vitok.storage import filesystem

MOST_MEMBERS = 20_000_000  # samples of tars whose places one machine should keep in memory
INDEX = pa.schema([("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("label", pa.int32()), ("why", pa.string())])


@dataclass(frozen=True, eq=False)
class Tars:
    """Tars of which only the names are known; an ingest reads each once, from beginning to end."""

    root: str
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def walk(self, number: int) -> Iterator[Sample | Rejection]:
        """Yield the samples of one tar in their order there, and a `Rejection` for each that is unusable."""
        name = self.names[number]
        uri = filesystem.join(self.root, name)
        try:
            # From a store in one request: member by member it would be ten thousand.
            with io.BytesIO(filesystem.read(uri)) if filesystem.is_remote(uri) else filesystem.opened(uri) as file:
                for row in _scan(file, name).to_pylist():
                    if row["why"]:
                        yield Rejection(row["name"], *row["why"].split("\n", 1))
                        continue
                    file.seek(row["offset"])
                    data = file.read(row["size"])
                    cut = len(data) < row["size"]
                    yield (
                        Rejection(row["name"], "truncated", f"{name} ends within it") if cut else Sample(row["name"], row["label"], data)
                    )
        except (RejectedError, OSError) as error:
            yield Rejection(name, *((error.reason, error.detail) if isinstance(error, RejectedError) else ("unreadable", str(error))))


@dataclass(frozen=True, eq=False)
class Unindexed:
    """A corpus of tars too large for an index: what an ingest needs to know of it."""

    uri: str
    kind: Kind
    train: Tars
    validation: Tars
    fingerprint: str  # SHA-256 over names and sizes of the tars, 16 hex digits
    classes: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()


def unindexed(uri: str, root: str, listing: Listing) -> Unindexed | None:
    """Return the corpus of tars that are too large for an index, or None where they can be streamed in place. Where the names of the
    tars state no splits, whole tars are held out. Raise `UsageError` for one tar, which cannot be divided."""
    shards = [(name, size) for name, size in listing if file_ending(name) == ".tar"]
    if _estimate(root, shards) <= MOST_MEMBERS:
        return None
    names = [name for name, _ in shards]
    parts = _part_of(names, names)
    train, held = (Tars(root, tuple(n for n, of in zip(names, parts, strict=True) if of == part)) for part in ("train", "validation"))
    if not len(train) or not len(held):
        raise UsageError(f"{uri!r} is one tar of more than {MOST_MEMBERS} samples: cut it, a tar is what is held out")
    digest = hashlib.sha256(json.dumps([[name, size, of] for (name, size), of in zip(shards, parts, strict=True)]).encode())
    return Unindexed(uri, _kind(_tar_index(root, names[0])), train, held, digest.hexdigest()[:16])


def webdataset(root: str, listing: Listing) -> RecognisedCorpus:
    """Read WebDataset tars. The members' byte ranges are found in one pass over the tar headers and cached in the user's cache. Raise
    `UsageError` for more than `MOST_MEMBERS` samples."""
    shards = [(name, size) for name, size in listing if file_ending(name) == ".tar"]
    if _estimate(root, shards) > MOST_MEMBERS:
        raise UsageError(f"{root!r} holds more than {MOST_MEMBERS} samples in {len(shards)} tars: run `vitok data ingest` first")
    with ThreadPoolExecutor(16 if filesystem.is_remote(root) else 4) as pool:
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
    names = tuple(name for name, _ in shards)
    parts = _part_of([names[shard] for shard in table["shard"].to_pylist()], table["name"].to_pylist())
    train, held = (Members(root, table.filter(pa.array([part == of for part in parts])), names) for of in ("train", "validation"))
    labels = pa.compute.max(table["label"]).as_py() if table.num_rows else None  # pyright: ignore[reportAttributeAccessIssue]
    classes = tuple(map(str, range((NO_LABEL if labels is None else labels) + 1)))
    return RecognisedCorpus(_kind(table) if table.num_rows else "image", train, held, classes, rejected=tuple(rejected))


def _estimate(root: str, shards: list[tuple[str, int]]) -> float:
    """Return the estimated number of samples: the first tar's samples per byte times the bytes of all."""
    return len(_tar_index(root, shards[0][0])) * sum(size for _, size in shards) / max(1, shards[0][1]) if shards else 0


def _kind(index: pa.Table) -> Kind:
    return "video" if {file_ending(name) for name in index["name"].slice(0, 100).to_pylist()} & VIDEOS else "image"


def _tar_index(root: str, shard: str) -> pa.Table:
    uri = filesystem.join(root, shard)
    key = hashlib.sha256(f"{uri} {filesystem.stamp(uri)}".encode()).hexdigest()[:32]
    kept = filesystem.cache() / "tars" / f"{key}.parquet"
    if kept.is_file():
        return pq.read_table(kept)

    def attempt() -> pa.Table:
        with filesystem.open_file(uri) as file:
            return _scan(file, shard)

    try:
        index = filesystem.retried(uri, attempt)
    except RejectedError as error:  # of the others there is still something to be had
        return pa.Table.from_pylist([{"name": shard, "why": f"{error.reason}\n{error.detail}"}], schema=INDEX)
    buffer = io.BytesIO()
    pq.write_table(index, buffer)
    filesystem.write(str(kept), buffer.getvalue())
    return index


def _scan(file: Any, shard: str) -> pa.Table:
    """Return the index of a tar (schema `INDEX`) from one pass over its headers. A member that its name or the end of the file makes
    unusable is a row with a reason in the column `why`."""
    rows: list[dict[str, Any]] = []
    labels: dict[str, int] = {}
    keys: list[str] = []

    def reject(name: str, why: str, detail: str) -> None:
        rows.append({"name": name, "offset": 0, "size": 0, "label": NO_LABEL, "why": f"{why}\n{detail}"})
        keys.append("")

    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
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
    except (tarfile.TarError, EOFError) as error:  # what a store fails to give is asked for again, not kept as the tar's
        reject(shard, "truncated" if rows else "corrupt", f"tar: {error}")
    for row, key in zip(rows, keys, strict=True):
        row["label"] = labels.get(key, NO_LABEL)
    return pa.Table.from_pylist(rows, schema=INDEX)


def _key(name: str) -> tuple[str, str, str]:
    """Return (key, dot, ending) of a member's name by WebDataset's rule: the key ends at the first dot after the last slash."""
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


def _part_of(shards: list[str], names: list[str]) -> list[str]:
    found = [split_of(shard) for shard in shards]
    held = "validation" if "validation" in found else "test"
    if None in found or not {"train", held} <= set(found):
        chosen = hold_out(names)
        return ["validation" if name in chosen else "train" for name in names]
    return ["validation" if part == held else str(part) for part in found]
