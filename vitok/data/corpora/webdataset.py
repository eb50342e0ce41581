"""WebDataset tars: members that share a key are one sample, with a .cls or .json member for its label.

By the format's rule the key is a member's name up to the first dot behind the last slash, and the field is what follows that dot, in
small letters: of 000000.left.PNG the key is 000000 and the field left.png. Where samples have several pictures, the option `?image=FIELD`
names the one that is meant, and `?image=each` makes every picture a sample. `?label=KEY` names the entry of .json that is the label.

Tars of up to `MOST_MEMBERS` samples are streamed in place, through an index of all members. Larger ones must be ingested first, which
reads them tar by tar without an index.
"""

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from vitok.data.corpora.folders import IMAGES, VIDEOS, Listing, RecognisedCorpus, file_ending, hold_out, is_hidden
from vitok.data.corpora.parquet import split_of
from vitok.data.corpora.splits import Kind, Members
from vitok.data.sample import NO_LABEL, PassedOver, Rejection, Sample
from vitok.errors import RejectedError, UsageError
from vitok.storage import filesystem
from vitok.text import printable

pc: Any = pyarrow.compute  # whose functions are made when it is imported: nothing can check their names
MOST_MEMBERS = 20_000_000  # samples of tars whose places one machine should keep in memory
EACH = "each"
INDEX = pa.schema([
    ("name", pa.string()), ("key", pa.string()), ("field", pa.string()), ("offset", pa.int64()), ("size", pa.int64()),
    ("label", pa.string()), ("why", pa.string()),
])  # fmt: skip
VERSION = 2  # of the index, as it is cached
LABELS = ("label", "cls")  # entries of .json that are looked for


@dataclass(frozen=True, eq=False)
class Tars:
    """Tars of which only the names are known; an ingest reads each once, from beginning to end."""

    root: str
    names: tuple[str, ...]
    image: str = ""
    label: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def walk(self, number: int) -> Iterator[Sample | Rejection]:
        """Yield the samples of one tar in their order there, and a `Rejection` for each that is unusable."""
        name = self.names[number]
        uri = filesystem.join(self.root, name)
        try:
            # From a store in one request: member by member it would be ten thousand.
            with io.BytesIO(filesystem.read(uri)) if filesystem.is_remote(uri) else filesystem.opened(uri) as file:
                index = _chosen(_scan(file, name, self.label), self.image)
                if any(label and not label.lstrip("-").isdecimal() for label in index["label"].to_pylist()):
                    raise RejectedError("labels", "are names, whose numbers only an index of all tars could tell")
                for row in index.to_pylist():
                    if row["why"]:
                        yield Rejection(row["name"], *row["why"].split("\n", 1))
                        continue
                    file.seek(row["offset"])
                    data = file.read(row["size"])
                    cut = len(data) < row["size"]
                    yield (
                        Rejection(row["name"], "truncated", f"{name} ends within it")
                        if cut
                        else Sample(row["name"], int(row["label"] or NO_LABEL), data)
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


def unindexed(uri: str, root: str, listing: Listing, image: str = "", label: str = "") -> Unindexed | None:
    """Return the corpus of tars that are too large for an index, or None where they can be streamed in place. Where the names of the
    tars state no splits, whole tars are held out. Raise `UsageError` for one tar, which cannot be divided."""
    shards = [(name, size) for name, size in listing if file_ending(name) == ".tar"]
    if _estimate(root, shards, label) <= MOST_MEMBERS:
        return None
    names = [name for name, _ in shards]
    parts, _ = _part_of(names, names)
    train, held = (
        Tars(root, tuple(n for n, of in zip(names, parts, strict=True) if of == part), image, label) for part in ("train", "validation")
    )
    if not len(train) or not len(held):
        raise UsageError(f"{uri!r} is one tar of more than {MOST_MEMBERS} samples: cut it, a tar is what is held out")
    digest = hashlib.sha256(json.dumps([[name, size, of] for (name, size), of in zip(shards, parts, strict=True)]).encode())
    return Unindexed(uri, _kind(_chosen(_tar_index(root, names[0], label), image)), train, held, digest.hexdigest()[:16])


def webdataset(root: str, listing: Listing, image: str = "", label: str = "") -> RecognisedCorpus:
    """Read WebDataset tars. The members' byte ranges are found in one pass over the tar headers and cached in the user's cache.

    Args:
        root: The folder of the tars.
        listing: All files below it.
        image: The field that is the picture, where samples have several; "each": every picture is a sample.
        label: The entry of .json members that is the label: a number, or a name.

    Raise `UsageError` for more than `MOST_MEMBERS` samples, and for samples of several pictures of which none is named.
    """
    shards = [(name, size) for name, size in listing if file_ending(name) == ".tar"]
    if _estimate(root, shards, label) > MOST_MEMBERS:
        raise UsageError(f"{root!r} holds more than {MOST_MEMBERS} samples in {len(shards)} tars: run `vitok data ingest` first")
    with ThreadPoolExecutor(16 if filesystem.is_remote(root) else 4) as pool:
        whole = list(pool.map(lambda item: _tar_index(root, item[0], label), shards))
    indices = [_chosen(index, image) for index in whole]
    labels = sorted({one for index in indices for one in pc.unique(index["label"]).to_pylist() if one})
    named = not all(one.lstrip("-").isdecimal() for one in labels)
    numbers = pa.array([*(range(len(labels)) if named else map(int, labels)), NO_LABEL], pa.int32())
    known = pa.array([*labels, ""], pa.string())
    rejected: list[Rejection] = []
    columns: dict[str, list[pa.Array]] = {name: [] for name in ("name", "shard", "offset", "size", "label")}
    for place, index in enumerate(indices):
        bad = pc.not_equal(index["why"], "")
        for row in index.filter(bad).to_pylist():
            rejected.append(Rejection(row["name"], *row["why"].split("\n", 1)))
        good = index.filter(pc.invert(bad))
        for name in ("name", "offset", "size"):
            columns[name] += good[name].chunks
        columns["label"] += [numbers.take(pc.index_in(chunk, known)) for chunk in good["label"].chunks]
        columns["shard"].append(pa.array([place] * len(good), pa.int32()))
    table = pa.table({name: pa.chunked_array(chunks) for name, chunks in columns.items() if chunks}).combine_chunks()
    if not table.num_rows:
        table = pa.table({name: pa.array([], pa.string() if name == "name" else pa.int64()) for name in columns})
    names = tuple(name for name, _ in shards)
    parts, stated = _part_of([names[shard] for shard in table["shard"].to_pylist()], table["name"].to_pylist())
    train, held = (
        Members(root, table.filter(pa.array([part == of for part in parts], pa.bool_())), names) for of in ("train", "validation")
    )
    classes = tuple(labels) if named else tuple(map(str, range(max(numbers.to_pylist()) + 1)))
    return RecognisedCorpus(
        _kind(table) if table.num_rows else "image", train, held, classes, notes=_notes(whole, table, label), rejected=tuple(rejected),
        parts=stated, read=names, passed_over=_passed_over(whole, indices),
    )  # fmt: skip


def _notes(indices: list[pa.Table], table: pa.Table, label: str) -> tuple[str, ...]:
    """Return what is to be said of labels: that none was found, though .json members are there."""
    keys = sorted({key for index in indices for key in _about(index)["entries"]})
    without = pc.sum(pc.equal(table["label"], NO_LABEL)).as_py() if table.num_rows else 0
    if not without or not keys:
        return ()
    which = f"the entry {label!r} of .json" if label else f"the entries {' and '.join(LABELS)} of .json"
    return (f"{without} of {table.num_rows} samples have no label: {which} is looked for, there are {', '.join(keys[:8])} (?label=KEY)",)


def _passed_over(whole: list[pa.Table], indices: list[pa.Table]) -> tuple[PassedOver, ...]:
    """Return the members that are neither pictures that are used nor labels, by field."""
    counts, examples = Counter[str](), dict[str, str]()
    for index, chosen in zip(whole, indices, strict=True):
        for field, (count, example) in _about(index)["others"].items():
            counts[field] += count
            examples.setdefault(field, example)
        if len(chosen) == len(index):
            continue
        kept, there = (Counter(dict(_counted(one["field"]))) for one in (chosen, index))
        for field, count in (there - kept).items():
            counts[f"{field}, of which another is the picture"] += count
            examples.setdefault(f"{field}, of which another is the picture", f"*.{field}")
    return tuple(PassedOver(f"member(s) .{field}", count, examples[field]) for field, count in sorted(counts.items()))


def _about(index: pa.Table) -> dict[str, Any]:
    """Return what an index tells of the members that are no rows of it: `others`, field -> (count, example), and `entries` of .json."""
    return json.loads((index.schema.metadata or {}).get(b"vitok", b'{"others": {}, "entries": []}'))


def _chosen(index: pa.Table, image: str) -> pa.Table:
    """Return the rows of an index that are samples: of each key, one picture. Raise `UsageError` where it is not said which."""
    if image == EACH:
        return index
    good = index.filter(pc.equal(index["why"], ""))
    if not image:
        several = next((key for key, count in _counted(good["key"], 2)), None)
        if several is None:
            return index
        fields = [printable(one) for one in good.filter(pc.equal(good["key"], several))["field"].to_pylist()]
        raise UsageError(
            f"sample {several!r} has {len(fields)} pictures ({', '.join(fields)}): say which is meant, as in ?image={fields[0]} behind the "
            f"corpus, or ?image={EACH} where each is a sample of its own"
        )
    there = sorted(pc.unique(good["field"]).to_pylist())
    if there and image.lower() not in there:
        raise UsageError(f"?image={image}: no sample has such a picture; there are {', '.join(map(printable, there[:8]))}")
    return index.filter(pc.or_(pc.not_equal(index["why"], ""), pc.equal(index["field"], image.lower())))


def _counted(column: Any, least: int = 1) -> list[tuple[str, int]]:
    """Return (value, count) of the values of a column that stand there `least` times or more."""
    counts = pa.table({"value": column}).group_by("value").aggregate([("value", "count")])
    counts = counts.filter(pc.greater_equal(counts["value_count"], least))
    return list(zip(counts["value"].to_pylist(), counts["value_count"].to_pylist(), strict=True))


def _estimate(root: str, shards: list[tuple[str, int]], label: str) -> float:
    """Return the estimated number of samples: the first tar's samples per byte times the bytes of all."""
    return len(_tar_index(root, shards[0][0], label)) * sum(size for _, size in shards) / max(1, shards[0][1]) if shards else 0


def _kind(index: pa.Table) -> Kind:
    return "video" if {file_ending(name) for name in index["name"].slice(0, 100).to_pylist()} & VIDEOS else "image"


def _tar_index(root: str, shard: str, label: str) -> pa.Table:
    uri = filesystem.join(root, shard)
    key = hashlib.sha256(f"{VERSION} {label} {uri} {filesystem.stamp(uri)}".encode(errors="surrogateescape")).hexdigest()[:32]
    kept = filesystem.cache() / "tars" / f"{key}.parquet"
    if kept.is_file():
        return pq.read_table(kept)

    def attempt() -> pa.Table:
        with filesystem.open_file(uri) as file:
            return _scan(file, shard, label)

    try:
        index = filesystem.retried(uri, attempt)
    except RejectedError as error:  # of the others there is still something to be had
        row = {"name": shard, "key": "", "field": "", "label": "", "why": f"{error.reason}\n{error.detail}"}
        return pa.Table.from_pylist([row], schema=INDEX)
    buffer = io.BytesIO()
    pq.write_table(index, buffer)
    filesystem.write(str(kept), buffer.getvalue())
    return index


def _scan(file: Any, shard: str, entry: str) -> pa.Table:
    """Return the index of a tar (schema `INDEX`) from one pass over its headers: a row for each picture, and for each member that its
    name or the end of the file makes unusable one with a reason in the column `why`."""
    rows: list[dict[str, Any]] = []
    labels: dict[str, str] = {}
    entries: set[str] = set()
    others: dict[str, tuple[int, str]] = {}

    def reject(name: str, why: str, detail: str) -> None:
        rows.append({"name": printable(name), "key": "", "field": "", "offset": 0, "size": 0, "why": f"{why}\n{printable(detail)}"})

    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if not member.isfile() or is_hidden(member.name):
                    continue
                key, field = _key_and_field(member.name)
                if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts:
                    reject(f"{shard}/{member.name}", "unsafe name", "absolute, or above the archive")
                elif file_ending(f"_.{field}") in IMAGES | VIDEOS:
                    place = {"name": printable(f"{shard}/{member.name}"), "key": key, "field": field}
                    rows.append({**place, "offset": member.offset_data, "size": member.size, "why": ""})
                elif field in ("cls", "json") and (content := tar.extractfile(member)) is not None:
                    label, there = _label(content.read(), field, entry)
                    entries.update(there)
                    if label:
                        labels[key] = label
                else:
                    count, example = others.get(field, (0, member.name))
                    others[field] = (count + 1, example)
    except (tarfile.TarError, EOFError) as error:  # what a store fails to give is asked for again, not kept as the tar's
        reject(shard, "truncated" if rows else "corrupt", f"tar: {error}")
    for row in rows:
        row["label"] = "" if row["why"] else labels.get(row["key"], "")
        row["key"] = printable(row["key"])
    about = {"others": {printable(field): (count, printable(name)) for field, (count, name) in others.items()}, "entries": sorted(entries)}
    return pa.Table.from_pylist(rows, schema=INDEX).replace_schema_metadata({b"vitok": json.dumps(about).encode()})


def _key_and_field(name: str) -> tuple[str, str]:
    """Return (key, field) of a member's name by WebDataset's rule: the key ends at the first dot after the last slash."""
    folder, slash, last = name.rpartition("/")
    stem, _, field = last.partition(".")
    return f"{folder}{slash}{stem}", field.lower()


def _label(content: bytes, field: str, entry: str) -> tuple[str, list[str]]:
    """Return (label as a text, "" for none; the entries of .json) of a member."""
    try:
        if field == "cls":
            return ("" if entry else str(int(content))), []
        found: Any = json.loads(content)
        there = [str(key) for key in found] if isinstance(found, dict) else []
        value = next((found[key] for key in ((entry,) if entry else LABELS) if key in there), None)
        usable = isinstance(value, int | str) and not isinstance(value, bool) and (entry or isinstance(value, int))
        return (str(value) if usable else ""), there
    except (ValueError, RecursionError):
        return "", []


def _part_of(shards: list[str], names: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return (split of each sample, the splits that the names of tars state; empty: the samples' own names decide)."""
    found = [split_of(shard) for shard in shards]
    held = "validation" if "validation" in found else "test"
    if None in found or not {"train", held} <= set(found):
        chosen = hold_out(names)
        return ["validation" if name in chosen else "train" for name in names], ()
    return ["validation" if part == held else str(part) for part in found], ("train", held)
