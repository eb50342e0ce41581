"""Rewrite any corpus as sharded Parquet for streaming (as MosaicML's MDS or WebDataset shards), deduplicated and globally shuffled.

Two passes of Ray Data. Each is a list of tasks that write whole files: an ingest that was killed continues with the missing files, and
its result does not depend on where it was killed.

1. Parts: a run of samples is read, decoded as a check, filtered, shrunk, and written sorted by the SHA-256 of the content.

2. Shards: each collects its range of hashes from all parts (through `merge`, where parts are many) and drops exact duplicates.
Neighbours in a shard are therefore a random draw from the whole corpus, and reading in order is as good as shuffling.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vitok.data.corpora import ingested
from vitok.data.corpora.corpus import Corpus
from vitok.data.corpora.splits import Split
from vitok.data.corpora.webdataset import Tars, Unindexed
from vitok.data.ingest.quality import CheckedSample, check
from vitok.data.sample import NO_LABEL, Rejection, Sample
from vitok.errors import RejectedError, UsageError, VitokError
from vitok.storage import filesystem

WORK = "_work"
EXAMPLES = 5  # names of rejected samples that the manifest shows for each reason
SPLITS = ("train", "validation")
SCHEMA = pa.schema([
    ("data", pa.binary()), ("label", pa.int32()), ("width", pa.int32()), ("height", pa.int32()), ("frames", pa.int32()),
    ("seconds", pa.float32()), ("source", pa.string()), ("hash", pa.binary(32)),
])  # fmt: skip


@dataclass(frozen=True)
class IngestOptions:
    """The options of an ingest. Together with the source they decide every byte of its result."""

    min_side: int = 0  # pixels
    max_side: int = 0  # larger images are shrunk to it; 0 keeps all
    min_seconds: float = 0.0
    max_seconds: float = 0.0  # 0: no limit
    validation: float = 0.0  # share held out by hash; 0 keeps the source's own splits
    shard_mb: int = 256
    group_rows: int = 32  # of a row group: what is read, and shuffled, as one
    part_samples: int = 1000  # of a task: what is done again after a kill
    max_rejected: float = 0.05


def ingest(
    source: Corpus | Unindexed, target: str, options: IngestOptions, progress: Callable[[str, int, int, int], None]
) -> dict[str, Any]:
    """Run or continue an ingest and return its manifest. Needs Ray. `progress(stage, done, total, bytes)` is called as tasks end.

    Raise `UsageError` where the target holds another ingest, `VitokError` where too much of the source is unusable.
    """
    plan = {"version": ingested.VERSION, "source": source.uri, "source_fingerprint": source.fingerprint, "options": asdict(options)}
    root = filesystem.absolute(target)
    if filesystem.exists(filesystem.join(root, ingested.MANIFEST)) == "file":
        found = ingested.manifest(root)
        if {key: found[key] for key in plan} != plan:
            raise UsageError(f"{target!r} holds an ingest of {found['source']} with other options or content: give another folder")
        return found
    work = filesystem.join(root, f"{WORK}/{hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]}")
    if filesystem.exists(root) and filesystem.exists(work) is None and filesystem.listing(root):
        raise UsageError(f"{target!r} is not empty and holds no ingest of this source with these options: give another folder")
    filesystem.write(filesystem.join(work, "plan.json"), json.dumps(plan).encode())  # the folder is this ingest's from here on
    parts = _parts(source, work, options, progress)
    numbered = map(str, range(1 + max((part["label"] for part in parts), default=NO_LABEL)))  # tars give no names
    manifest = plan | {"kind": source.kind, "classes": list(source.classes or numbered), "group_rows": options.group_rows}
    manifest |= _rejected(source, parts, options) | _shards(root, work, parts, options, progress)
    filesystem.write(filesystem.join(root, ingested.MANIFEST), json.dumps(manifest, indent=1).encode())
    filesystem.remove(filesystem.join(root, WORK))
    filesystem.tidy(root)
    return manifest


def _parts(source: Corpus | Unindexed, work: str, options: IngestOptions, progress: Callable[..., None]) -> list[dict[str, Any]]:
    """Run pass 1 and return the state of each part (rows, bytes, highest label, rejected samples) in the order of the source."""
    import ray

    splits: dict[str, Split | Tars] = {"train": source.train, "validation": source.validation}
    each = max(options.part_samples, sum(map(len, splits.values())) // FAN**2)  # of large tars each is one
    jobs = [(name, first, last) for name, split in splits.items() for first, last in _runs(split, each)]
    references = {name: ray.put(split) for name, split in splits.items()}
    video = source.kind == "video"

    def part(job: int) -> dict[str, Any]:
        name, first, last = jobs[job]
        table, state = _part(ray.get(references[name]), name, first, last, video, options)
        filesystem.write(_part_file(work, job), _parquet(table, options))
        return state

    return _done("part", part, len(jobs), work, progress)


def _done(kind: str, task: Callable[[int], dict[str, Any]], count: int, work: str, progress: Callable[..., None]) -> list[dict[str, Any]]:
    """Run those of task(0) .. task(count - 1) that have not been done and return the states of all. A task's state file is written last,
    so a task with a state file is done."""

    def tell(job: int) -> int:
        state = task(job)
        filesystem.write(_state(work, kind, job), json.dumps(state).encode())
        return state["bytes"]

    there = {name for name, _ in filesystem.listing(work)}
    waiting = [job for job in range(count) if f"{kind}-{job:06d}.json" not in there]
    for number, size in enumerate(run_tasks(tell, waiting), start=1):
        progress(f"{kind}s", count - len(waiting) + number, count, size)
    with ThreadPoolExecutor(16) as pool:  # of a store they come slowly, and there may be tens of thousands
        return list(pool.map(lambda job: json.loads(filesystem.read(_state(work, kind, job))), range(count)))


def _state(work: str, kind: str, job: int) -> str:
    return filesystem.join(work, f"{kind}-{job:06d}.json")


def run_tasks(task: Callable[[int], int], numbers: list[int]) -> Iterator[int]:
    """Yield task(n) for every n in `numbers`, in order, run by Ray Data on all CPUs. Raise `VitokError` where a task raises it."""
    from vitok.data.loading import blocks

    def make(n: int) -> blocks.Columns:
        # An error that crosses Ray Data as an exception comes back wrapped in a page of text.
        try:
            return {"result": np.array([task(numbers[n])]), "error": np.array([""])}
        except (VitokError, RejectedError) as error:
            return {"result": np.array([0]), "error": np.array([str(error)])}

    for block in blocks.stream(make, len(numbers), 1 << 20):
        if error := str(block["error"][0]):
            raise VitokError(f"{error}; the same command goes on from here")
        yield int(block["result"][0])


def _runs(split: Split | Tars, each: int) -> Iterator[tuple[int, int]]:
    """Yield runs of whole units of about `each` samples as (first unit, unit after the last)."""
    if isinstance(split, Tars):
        yield from ((number, number + 1) for number in range(len(split)))
        return
    if split.units is None:
        yield from ((first, min(first + each, len(split))) for first in range(0, len(split), each))
        return
    first = held = 0
    for unit, rows in enumerate(split.units.tolist()):
        held += rows
        if held >= each:
            yield first, unit + 1
            first, held = unit + 1, 0
    if held:
        yield first, len(split.units)


def _samples(split: Split | Tars, first: int, last: int) -> Iterator[Sample | Rejection]:
    for unit in range(first, last):
        if isinstance(split, Tars):
            yield from split.walk(unit)
            continue
        for row in range(1 if split.units is None else int(split.units[unit])):
            try:
                yield split.get(unit, row)
            except RejectedError as error:
                yield Rejection(split.name(unit, row), error.reason, error.detail)


def _part(split: Split | Tars, name: str, first: int, last: int, video: bool, options: IngestOptions) -> tuple[pa.Table, dict[str, Any]]:
    kept: list[tuple[bytes, CheckedSample, str, int]] = []
    rejected: list[Rejection] = []
    for sample in _samples(split, first, last):
        if isinstance(sample, Rejection):
            rejected.append(sample)
            continue
        try:
            one = check(sample, video, options.min_side, options.max_side, options.min_seconds, options.max_seconds)
            kept.append((hashlib.sha256(one.original).digest(), one, sample.name, sample.label))
        except RejectedError as error:
            rejected.append(Rejection(sample.name, error.reason, error.detail))
    kept.sort(key=lambda item: (item[0], item[2]))
    table = pa.table(
        {
            "data": [one.data for _, one, *_ in kept], "label": [label for *_, label in kept], "width": [one.width for _, one, *_ in kept],
            "height": [one.height for _, one, *_ in kept], "frames": [one.frames for _, one, *_ in kept],
            "seconds": [one.seconds for _, one, *_ in kept], "source": [source for *_, source, _ in kept], "hash": [h for h, *_ in kept],
        }, schema=SCHEMA,
    )  # fmt: skip
    size = sum(len(one.data) for _, one, *_ in kept)
    highest = max((label for *_, label in kept), default=NO_LABEL)
    state = {
        "split": name,
        "rows": len(kept),
        "bytes": size,
        "label": highest,
        "rejected": [[r.name, r.reason, r.detail] for r in rejected],
    }
    return table, state


def _rejected(source: Corpus | Unindexed, parts: list[dict[str, Any]], options: IngestOptions) -> dict[str, Any]:
    """Return counts and examples of rejected samples by reason. Raise `VitokError` where more are broken than `max_rejected` allows; a
    filtered sample is not broken."""
    reasons: dict[str, dict[str, Any]] = {}
    for rejection in (*source.rejected, *(Rejection(*row) for part in parts for row in part["rejected"])):
        entry = reasons.setdefault(rejection.reason, {"count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append(str(rejection))
    broken = sum(entry["count"] for reason, entry in reasons.items() if not reason.startswith("filtered"))
    whole = sum(part["rows"] + len(part["rejected"]) for part in parts) + len(source.rejected)
    if broken > max(10, options.max_rejected * whole):
        worst = "; ".join(f"{entry['count']} {reason}, as {entry['examples'][0]}" for reason, entry in reasons.items())
        raise VitokError(
            f"{broken} of {whole} samples cannot be used ({worst}); --max-rejected {options.max_rejected:g} is the share allowed"
        )
    if not sum(part["rows"] for part in parts):
        raise VitokError(f"nothing of {source.uri!r} is left: {json.dumps({r: e['count'] for r, e in reasons.items()})}")
    return {"rejected": reasons, "samples_read": whole}


def _shards(root: str, work: str, parts: list[dict[str, Any]], options: IngestOptions, progress: Callable[..., None]) -> dict[str, Any]:
    """Run pass 2 and return the manifest's entries on shards, counts and fingerprint."""
    total = {name: sum(p["bytes"] for p in parts if p["split"] == name) for name in SPLITS}
    if options.validation:  # by the hash alone: shards at the upper end of the hashes
        whole = sum(total.values())
        total = {"train": round(whole * (1 - options.validation)), "validation": round(whole * options.validation)}
    jobs: list[tuple[str, int, int]] = []
    for name in SPLITS:
        count = max(1, -(-total[name] // (options.shard_mb << 20)))
        jobs += [(name, number, count) for number in range(count)]
    files_of: dict[str, list[str]] = {"all": []} if options.validation else {name: [] for name in SPLITS}
    for number, part in enumerate(parts):
        files_of["all" if options.validation else part["split"]].append(_part_file(work, number))

    def save(uri: str, table: pa.Table) -> int:
        data = _parquet(table, options)
        filesystem.write(uri, data)
        return len(data)

    of_split = hash_ranges(files_of, work, save, lambda kind, task, count: _done(kind, task, count, work, progress))
    sources = {name: of_split["all" if options.validation else name] for name in SPLITS}

    def shard(job: int) -> dict[str, Any]:
        name, number, count = jobs[job]
        low, high = _range(name, number, count, options.validation)
        found = pa.concat_tables([SCHEMA.empty_table(), *collect(sources[name], low, high)])
        copies = found.num_rows
        if name == "train" and not options.validation:  # what is held out too is not trained on
            held = {h for part in collect(sources["validation"], low, high, ["hash"]) for h in part["hash"].to_pylist()}
            found = found.filter(pa.array([h not in held for h in found["hash"].to_pylist()], pa.bool_()))
        # In the order of the hash and, among copies, of their names: the first copy stays, whichever part came first.
        found = found.take(pc.sort_indices(found, [("hash", "ascending"), ("source", "ascending")]))  # pyright: ignore[reportAttributeAccessIssue]
        hashes = found["hash"].to_pylist()
        first = [i for i, h in enumerate(hashes) if i == 0 or h != hashes[i - 1]]
        table = found.take(first).combine_chunks()
        file = f"{name}-{number:05d}-of-{count:05d}.parquet"
        data = _parquet(table, options)
        content = hashlib.sha256()
        for h, label in zip(table["hash"].to_pylist(), table["label"].to_pylist(), strict=True):
            content.update(h + int(NO_LABEL if label is None else label).to_bytes(4, "little", signed=True))
        state = {
            "file": file, "split": name, "rows": table.num_rows, "bytes": len(data), "duplicates": copies - table.num_rows,
            "sha256": hashlib.sha256(data).hexdigest(), "content": content.hexdigest(),
        }  # fmt: skip
        filesystem.write(filesystem.join(root, file), data)
        return state

    states = _done("shard", shard, len(jobs), work, progress)
    fingerprint = hashlib.sha256(json.dumps([[s["split"], s["content"]] for s in states]).encode()).hexdigest()[:16]
    counts = {name: sum(s["rows"] for s in states if s["split"] == name) for name in SPLITS}
    return {
        "counts": counts, "bytes": sum(s["bytes"] for s in states), "duplicates": sum(s["duplicates"] for s in states),
        "fingerprint": fingerprint, "shards": [s for s in states if s["rows"]],
    }  # fmt: skip


def _range(name: str, number: int, count: int, validation: float) -> tuple[int, int]:
    """Return the range of hashes of a shard, [first, end), as numbers of their first eight bytes."""
    border = round((1 - validation) * WHOLE) if validation else WHOLE
    start, stop = (0, border) if name == "train" or not validation else (border, WHOLE)
    return start + (stop - start) * number // count, start + (stop - start) * (number + 1) // count


def _part_file(work: str, number: int) -> str:
    return filesystem.join(work, f"part-{number:06d}.parquet")


def _parquet(table: pa.Table, options: IngestOptions) -> bytes:
    buffer = io.BytesIO()
    # Media are compressed already; the statistics of the hashes are what a range of them is found by.
    pq.write_table(table, buffer, row_group_size=options.group_rows, compression="none", write_statistics=["hash"])  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


FAN = 256  # parts
WHOLE = 2**64  # the first eight bytes of a hash, as a number


@dataclass(frozen=True)
class Piece:
    """Files sorted by hash that together hold every row with a hash in [low, high), numbers of the hash's first eight bytes."""

    low: int
    high: int
    files: tuple[str, ...]


def hash_ranges(
    parts: dict[str, list[str]], work: str, save: Callable[[str, pa.Table], int], done: Callable[..., list[dict[str, Any]]]
) -> dict[str, list[Piece]]:
    """Return the pieces of each split, merging its part files by `FAN` where there are more than that, so that no shard reads every
    part.

    `done(kind, task, count)` runs the tasks that have not been done; `save(uri, table)` writes a file and returns its bytes.
    """
    jobs: list[tuple[list[str], int, int]] = []  # the files of a group, and a range of hashes
    found: dict[str, list[Piece]] = {}
    for name, uris in parts.items():
        groups = [uris[first : first + FAN] for first in range(0, len(uris), FAN)]
        if len(groups) <= 1:
            found[name] = [Piece(0, WHOLE, tuple(uris))]
            continue
        found[name] = []
        for number in range(len(groups)):
            low, high, first = WHOLE * number // len(groups), WHOLE * (number + 1) // len(groups), len(jobs)
            jobs += [(group, low, high) for group in groups]
            found[name].append(Piece(low, high, tuple(_file(work, job) for job in range(first, len(jobs)))))

    def merge(job: int) -> dict[str, Any]:
        group, low, high = jobs[job]
        table = pa.concat_tables([rows(uri, low, high) for uri in group])
        return {"bytes": save(_file(work, job), table.sort_by([("hash", "ascending"), ("source", "ascending")]))}

    if jobs:
        done("merge", merge, len(jobs))
    return found


def collect(found: list[Piece], low: int, high: int, columns: list[str] | None = None) -> list[pa.Table]:
    """Return tables of the rows with a hash in [low, high), one from each file that can hold some."""
    return [rows(uri, low, high, columns) for piece in found if piece.low < high and low < piece.high for uri in piece.files]


def rows(uri: str, low: int, high: int, columns: list[str] | None = None) -> pa.Table:
    """Return the rows of one file with a hash in [low, high). Only row groups whose statistics allow such a hash are read. Raise
    `RejectedError` where the file cannot be read."""
    first, end = low.to_bytes(9, "big")[1:], None if high == WHOLE else high.to_bytes(8, "big")

    def attempt() -> pa.Table:
        with filesystem.open_file(uri) as file:
            part = pq.ParquetFile(file)
            column = part.schema_arrow.get_field_index("hash")
            groups: list[int] = []
            for group in range(part.num_row_groups):
                seen = part.metadata.row_group(group).column(column).statistics
                if (seen is None or not seen.has_min_max) or (seen.max >= first and (end is None or seen.min < end)):
                    groups.append(group)
            return part.read_row_groups(groups, columns=columns, use_threads=False)

    found = filesystem.retried(uri, attempt)
    return found.filter(pa.array([first <= h and (end is None or h < end) for h in found["hash"].to_pylist()], pa.bool_()))


def _file(work: str, job: int) -> str:
    return filesystem.join(work, f"merge-{job:06d}.parquet")
