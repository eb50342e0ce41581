"""Build sets of latents: take the posteriors that `encode` yields in the order of the views and write them as whole shards.

The content of a shard depends on its views alone, because views are encoded in batches of a fixed size at fixed places. A build that was
killed continues from the first missing shard of each set and writes the same bytes.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vitok import config
from vitok.config import variants
from vitok.data.corpora.corpus import Corpora
from vitok.data.latents.dataset import MANIFEST, VERSION, Grid, LatentSet, open_set, row_bytes
from vitok.data.latents.encode import Columns, EncodingRequest, LatentEncoder, encode_views
from vitok.data.loading.loader import RejectedSamples, open_reader, reasons
from vitok.data.loading.reader import Reader
from vitok.data.sample import Rejection
from vitok.errors import UsageError, VitokError
from vitok.storage import filesystem

STATE = b"vitok"  # key of what a shard's footer says of it
BATCH, BATCH_BYTES = 64, 16 << 20  # views that are encoded together: at most so many, of so many bytes of pixels
SHARD_VIEWS, SHARD_BYTES = 4096, 256 << 20  # views of a shard: at most so many, of so many bytes of latents
GROUP_ROWS = 64  # of a row group: what is read, and shuffled, as one


@dataclass(frozen=True)
class PlannedSet:
    """A set of latents that is to be built, with the sizes that are known before anything is decoded."""

    encoder: LatentEncoder
    folder: str
    grid: Grid
    views: int
    rows: int  # at most: views that cannot be decoded have none
    bytes: int  # at most, of the two tensors
    each: int  # views of a shard
    batch: int  # views that are encoded together
    written: int  # shards that are there
    finished: bool

    @property
    def missing(self) -> int:
        """The bytes that are still to be written."""
        return 0 if self.finished else self.bytes - min(self.written * self.each, self.views) * self.bytes // self.views


def key(encoder: LatentEncoder, fingerprint: str, latents: config.Latents, size: int, frames: int) -> str:
    """Return the key of a set, 16 hex digits of SHA-256 over everything that decides its latents: the tokenizer's weights, the number of
    heads and the precision, which the weights do not show, the corpus and the views."""
    views = latents.model_dump(mode="json", exclude={"max_rejected"} | ({"smallest_crop"} if latents.crops == 1 else set()))
    unseen = [encoder.recipe.tokenizer.encoder.heads, encoder.recipe.precision]
    text = json.dumps([VERSION, encoder.weights, unseen, fingerprint, views, size, frames], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plan_sets(
    corpora: Corpora, latents: config.Latents, size: int, frames: int, encoders: list[LatentEncoder], root: str
) -> list[PlannedSet]:
    """Return the sets that `build` would make, one for each encoder. Raise `UsageError` for a mixture of corpora or pixels that the
    patches do not divide, `VitokError` where a local disk has too little room."""
    if len(corpora.parts) > 1:
        raise UsageError(f"corpus {corpora.uri!r} is a mixture, whose weights a set of latents does not keep: give one corpus")
    whole = corpora.counts[0] * latents.crops
    views = min(latents.views or whole, whole)
    plans: list[PlannedSet] = []
    for encoder in encoders:
        grid = encoder.grid(size, frames)
        folder = filesystem.join(filesystem.absolute(root), key(encoder, corpora.fingerprint, latents, size, frames))
        rows = views * (1 + latents.flip)
        each_row = row_bytes(grid, encoder.recipe.tokenizer.channels)
        batch = _power_of_two(min(BATCH, BATCH_BYTES // (3 * frames * size**2)))
        each = max(1, min(SHARD_VIEWS, SHARD_BYTES // ((1 + latents.flip) * each_row)) // batch) * batch
        finished = filesystem.exists(filesystem.join(folder, MANIFEST)) == "file"
        written = 0 if finished else len(_written(folder, each, batch, views))
        plans.append(PlannedSet(encoder, folder, grid, views, rows, rows * each_row, each, batch, written, finished))
    _need_room(root, sum(plan.missing for plan in {plan.folder: plan for plan in plans}.values()))
    return plans


def build(
    corpora: Corpora,
    latents: config.Latents,
    size: int,
    frames: int,
    encoders: list[LatentEncoder],
    root: str,
    actors: int = 1,
    gpus: int = 0,
    progress: Callable[[int, int, int], None] = lambda *_: None,
) -> list[LatentSet]:
    """Build or continue the set of each encoder and return all of them. Needs a connected Ray.

    `actors` encode, with `gpus` GPUs each, 0 or 1. `progress(done, total, new)` counts views; `new` are those of this call. Raise as
    `plan_sets` does, and `VitokError` where too many views are unusable or latents are not finite.
    """
    plans = plan_sets(corpora, latents, size, frames, encoders, root)
    waiting = list({plan.folder: _Set(plan) for plan in plans if not plan.finished}.values())
    if waiting:
        rejected = _encode(waiting, open_reader(corpora, "train", latents.data(), size, frames), corpora, latents, actors, gpus, progress)
        for made in waiting:
            filesystem.tidy(made.plan.folder)
            text = json.dumps(_manifest(made, corpora, latents, size, frames, rejected), indent=1)
            filesystem.write(filesystem.join(made.plan.folder, MANIFEST), text.encode())
    return [open_set(plan.folder) for plan in plans]


class _Set:
    """A set while it is built: its written shards, and the batches of the next."""

    def __init__(self, plan: PlannedSet) -> None:
        self.plan = plan
        self.shards = _written(plan.folder, plan.each, plan.batch, plan.views)
        self.first = self.done = min(len(self.shards) * plan.each, plan.views)
        self.pending: list[Columns] = []

    def add(self, batch: Columns, writer: "_Writer") -> None:
        """Add a batch; write a shard when it is full."""
        if batch["number"][0] < self.done:
            return
        self.pending.append(batch)
        self.done += len(batch["number"])
        if self.done % self.plan.each == 0 or self.done == self.plan.views:
            whole = {name: np.concatenate([part[name] for part in self.pending]) for name in batch}
            table, state = _shard(whole, self.plan)
            self.pending = []
            writer.write(filesystem.join(self.plan.folder, _name(len(self.shards))), table)
            self.shards.append(state)


class _Writer:
    """A writer of one shard at a time in a thread, while the next shard is made."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self.thread = thread
        self.running: Future[None] | None = None

    def write(self, uri: str, table: pa.Table) -> None:
        """Begin to write a shard, after the one before."""
        self.finish()
        self.running = self.thread.submit(filesystem.write, uri, lambda file: _store(table, file))

    def finish(self) -> None:
        """Wait for what is being written."""
        if self.running:
            self.running.result()


def _encode(
    sets: list[_Set], views: Reader, corpora: Corpora, latents: config.Latents, actors: int, gpus: int, progress: Callable[..., None]
) -> list[Rejection]:
    """Write all missing shards and return the rejected samples. Raise `VitokError` as `build` does."""
    behind = min(sets, key=lambda one: one.first)
    done, total = behind.first, behind.plan.views
    rejected = RejectedSamples(latents.max_rejected, frozenset(corpora.rejected))
    begun = np.diff(views.samples(), prepend=-1) != 0  # the first view of a sample: samples are counted, as the rejected are

    def count(found: list[Rejection], first: int, last: int) -> None:
        try:
            rejected.add(frozenset(found), int(begun[first:last].sum()), int(begun.sum()))
        except VitokError as error:
            raise VitokError(str(error).replace("data.max_rejected", "latents.max_rejected")) from None

    count([Rejection(*row) for shard in behind.shards for row in shard["rejected"]], 0, done)
    firsts = [one.first for one in sets]
    wanted = EncodingRequest([one.plan.encoder for one in sets], firsts, behind.plan.batch, latents.flip, gpus, views)
    with ThreadPoolExecutor(1) as thread:
        writer = _Writer(thread)
        for block in encode_views(wanted, actors):
            if "error" in block:
                raise VitokError(f"{block['error'][0]}")
            numbers = block["number"]
            if not np.array_equal(numbers, np.arange(done, done + len(numbers))):
                raise VitokError(f"views {numbers[0]} to {numbers[-1]} came where view {done} was due")
            count([rejection for cell in block["rejected"] for rejection in reasons(cell)], done, done + len(numbers))
            for first in range(0, len(numbers), behind.plan.batch):
                rows = slice(first, first + behind.plan.batch)
                shared = {name: block[name][rows] for name in ("number", "label", "ok", "rejected")}
                for number, one in enumerate(sets):
                    if f"mean:{number}" in block:
                        own = {name: block[f"{name}:{number}"][rows] for name in ("mean", "log_variance", "sums")}
                        one.add(shared | own, writer)
            done += len(numbers)
            progress(done, total, done - behind.first)
        writer.finish()
    if done != total:
        raise VitokError(f"only {done} of {total} views came back: see Ray's logs; run again to continue")
    found = [Rejection(*row) for shard in behind.shards for row in shard["rejected"]]
    if not sum(shard["rows"] for shard in behind.shards):
        raise VitokError(f"corpus {corpora.uri!r}: none of {total} views could be decoded; the first: {found[0]}")
    return list({one.name: one for one in (*corpora.rejected, *found)}.values())


def _shard(whole: Columns, plan: PlannedSet) -> tuple[pa.Table, dict[str, Any]]:
    """Return (table of a shard's views, its state: the JSON in the file's footer)."""
    ok, channels = whole["ok"].astype(bool), plan.encoder.recipe.tokenizer.channels
    numbers, labels, times = whole["number"][ok], whole["label"][ok], whole["mean"].shape[1]
    width = row_bytes(plan.grid, channels) // 2
    arrays: dict[str, pa.Array] = {
        "view": pa.array(np.repeat(numbers, times), pa.int32()),
        "mirrored": pa.array(np.tile(np.arange(times) == 1, len(numbers)), pa.bool_()),
        "label": pa.array(np.repeat(labels, times), pa.int32()),
    }
    for name in ("mean", "log_variance"):
        data = pa.py_buffer(np.ascontiguousarray(whole[name][ok], "<f2"))
        arrays[name] = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), times * len(numbers), [None, data])
    values, counts = np.unique(labels, return_counts=True)
    state = {
        "version": VERSION, "first": int(whole["number"][0]), "views": len(ok), "batch": plan.batch, "group_rows": GROUP_ROWS,
        "rows": times * len(numbers),
        "labels": {str(label): times * count for label, count in zip(values.tolist(), counts.tolist(), strict=True)},
        "sums": whole["sums"][ok].sum(axis=(0, 1)).tolist(),
        "rejected": [[one.name, one.reason, one.detail] for cell in whole["rejected"] for one in reasons(cell)],
    }  # fmt: skip
    return pa.table(arrays).replace_schema_metadata({STATE: json.dumps(state)}), state


def _store(table: pa.Table, file: Any) -> None:
    """Write a shard's Parquet, uncompressed, since half-precision noise does not compress. Each column of a row group is one page."""
    pq.write_table(
        table, file, row_group_size=GROUP_ROWS, compression="none", use_dictionary=False, write_statistics=False,  # pyright: ignore[reportArgumentType]
        data_page_size=1 << 30,
    )  # fmt: skip


def _written(folder: str, each: int, batch: int, views: int) -> list[dict[str, Any]]:
    """Return the states of an unfinished set's shards, up to the first that is missing, damaged or cut into other views."""
    there = {name for name, _ in filesystem.listing(folder)} if filesystem.exists(folder) == "folder" else set[str]()
    found: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, views, each)):
        if _name(number) not in there:
            break
        try:
            with filesystem.open_file(filesystem.join(folder, _name(number))) as file:
                state = json.loads((pq.read_metadata(file).metadata or {})[STATE])
        except (OSError, pa.ArrowInvalid, KeyError, ValueError):
            break
        cut = {"version": VERSION, "first": first, "views": min(each, views - first), "batch": batch, "group_rows": GROUP_ROWS}
        if not cut.items() <= state.items():
            break
        found.append(state)
    return found


def _manifest(made: _Set, corpora: Corpora, latents: config.Latents, size: int, frames: int, rejected: list[Rejection]) -> dict[str, Any]:
    plan, recipe = made.plan, made.plan.encoder.recipe
    rows = sum(shard["rows"] for shard in made.shards)
    counts: dict[int, int] = {}
    for shard in made.shards:
        for label, count in shard["labels"].items():
            counts[int(label)] = counts.get(int(label), 0) + count
    names = corpora.parts[0][1].classes
    classes = (*names, *map(str, range(len(names), max(counts) + 1)))  # of labels that the corpus has no names for
    # E[z] = E[mean], Var[z] = Var[mean] + E[exp(log_variance)].
    mean, square, noise = np.sum([shard["sums"] for shard in made.shards], axis=0) / (rows * math.prod(plan.grid))
    std = np.sqrt(np.maximum(square - mean**2, 0) + noise)
    return {
        "version": VERSION, "weights": plan.encoder.weights, "variant": variants.variant_name(recipe.tokenizer), "corpus": corpora.uri,
        "fingerprint": corpora.fingerprint, "latents": latents.model_dump(mode="json"), "size": size, "frames": frames,
        "grid": list(plan.grid), "channels": recipe.tokenizer.channels, "tokens": math.prod(plan.grid), "group_rows": GROUP_ROWS,
        "rows": rows, "views": plan.views, "whole": corpora.counts[0] * latents.crops, "classes": list(classes),
        "counts": [counts.get(label, 0) for label in range(len(classes))],
        "mean": mean.tolist(), "std": std.tolist(),
        "shards": [
            {"file": _name(number), "rows": shard["rows"], "groups": -(-shard["rows"] // GROUP_ROWS)}
            for number, shard in enumerate(made.shards)
        ],
        "rejected": [[one.name, one.reason, one.detail] for one in rejected],
        "bytes": rows * row_bytes(plan.grid, recipe.tokenizer.channels),
    }  # fmt: skip


def _need_room(root: str, needed: int) -> None:
    if filesystem.is_remote(root):
        return
    place = Path(filesystem.absolute(root))
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise VitokError(
            f"{root}: the latents need {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free: make room, take another storage, "
            "or fewer latents.views"
        )


def _name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def _power_of_two(most: int) -> int:
    """Return the largest power of two up to `most`, 1 at least."""
    return 1 << max(0, most.bit_length() - 1)
