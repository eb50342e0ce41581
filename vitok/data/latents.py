"""Views of a corpus, encoded once: posteriors by one or several tokenizers in one pass, as sharded Parquet.

Ray Data's tasks decode each view once, actors encode it by every tokenizer whose set lacks it, this process writes whole shards in
the order of the views. What a shard holds depends on nothing but its views: they are encoded in batches of a fixed size at fixed
places, so that a build that was killed goes on from the first missing shard of each set and comes to the same bytes.
"""

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from ray.data import ActorPoolStrategy
from torch import Tensor

from vitok import config, variants
from vitok.config import Recipe
from vitok.data import files, tasks
from vitok.data.corpora import Corpora, Corpus
from vitok.data.reader import Reader
from vitok.data.sample import NO_LABEL, RejectedError, Rejection
from vitok.data.splits import Rows
from vitok.data.stream import Rejected, columns, reader, reasons
from vitok.errors import UsageError, VitokError
from vitok.losses import to_pixels
from vitok.models.bottleneck import Posterior
from vitok.models.digest import digest
from vitok.models.tokenizer import Grid, Tokenizer

Columns = dict[str, np.ndarray]
MANIFEST, VERSION = "manifest.json", 1
STATE = b"vitok"  # key of what a shard's footer says of it
BATCH, BATCH_BYTES = 64, 16 << 20  # views that are encoded together: at most so many, of so many bytes of pixels
SHARD_VIEWS, SHARD_BYTES = 4096, 256 << 20  # views of a shard: at most so many, of so many bytes of latents
GROUP_ROWS = 64  # of a row group: what is read, and shuffled, as one
BLOCK_BYTES, BLOCK_VIEWS = 32 << 20, 512  # of pixels that one task decodes, at most
BLOCKS = 4096  # of one plan of Ray Data's, which takes seconds to begin, and the longer the more blocks it has
DECODING = 0.25  # CPUs of a decode task: its work is a fraction of an encoder's on a CPU


@dataclass(frozen=True)
class Encoder:
    """A tokenizer as an actor opens it."""

    recipe: Recipe
    weights: str  # SHA-256 of the state
    state: dict[str, Tensor] = field(repr=False)

    @classmethod
    def of(cls, recipe: Recipe, state: dict[str, Tensor]) -> "Encoder":
        return cls(recipe, digest(state), state)

    def open(self, device: torch.device) -> Callable[[Tensor], Posterior]:
        """From uint8 (B, [T,] H, W, 3) on the device to the posterior, in the precision of the tokenizer's training."""
        model = Tokenizer(self.recipe.tokenizer)
        model.load_state_dict(self.state)
        model.eval().encoder.to(device)

        def encode(images: Tensor) -> Posterior:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
                return model.encode(to_pixels(images))

        return encode

    def grid(self, size: int, frames: int) -> Grid:
        """Tokens along (t, y, x). Raises `UsageError` where the pixels do not divide."""
        q, p = self.recipe.tokenizer.stride, self.recipe.tokenizer.patch
        if frames % q or size % p:
            name = variants.name(self.recipe.tokenizer)
            raise UsageError(f"{frames} frame(s) of {size} pixels are not divisible by the tubelets of {name}: {q} frame(s) of {p} pixels")
        return frames // q, size // p, size // p


@dataclass(frozen=True)
class Planned:
    """A set of latents that is asked for, as far as it is known before anything is decoded."""

    encoder: Encoder
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
        """Bytes that are still to be written."""
        return 0 if self.finished else self.bytes - min(self.written * self.each, self.views) * self.bytes // self.views


@dataclass(frozen=True)
class LatentSet:
    """Finished latents, as their manifest tells of them. Small: it goes to every trial."""

    folder: str
    weights: str  # of the tokenizer, SHA-256
    variant: str
    uri: str  # of the corpus
    fingerprint: str
    latents: config.Latents
    size: int
    frames: int
    grid: Grid
    channels: int
    group_rows: int
    rows: int
    views: int  # of which those that could be decoded have rows
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # rows of each class
    mean: tuple[float, ...]  # of the sampled latents, a channel
    std: tuple[float, ...]
    shards: tuple[tuple[str, int], ...]  # (file, rows)
    rejected: tuple[Rejection, ...]

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def row_bytes(self) -> int:
        """Of the two tensors of a row."""
        return _row_bytes(self.grid, self.channels)

    @property
    def bytes(self) -> int:
        return self.rows * self.row_bytes

    @property
    def unlabelled(self) -> int:
        """Rows without a label."""
        return self.rows - sum(self.counts)

    @property
    def about(self) -> str:
        """How the views are cut, for a protocol."""
        return Reader((), (), (), (), self.latents.data(), self.size, self.frames, False).about()


def key(encoder: Encoder, fingerprint: str, latents: config.Latents, size: int, frames: int) -> str:
    """Of a set, 16 hex digits: what decides the latents. Beside the weights that is what a state does not show of its tokenizer."""
    views = latents.model_dump(mode="json", exclude={"max_rejected"} | ({"smallest_crop"} if latents.crops == 1 else set()))
    unseen = [encoder.recipe.tokenizer.encoder.heads, encoder.recipe.precision]
    text = json.dumps([VERSION, encoder.weights, unseen, fingerprint, views, size, frames], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def announce(corpora: Corpora, latents: config.Latents, size: int, frames: int, encoders: list[Encoder], root: str) -> list[Planned]:
    """What `build` would make, one set for each encoder. Raises `UsageError` for a mixture or pixels that do not divide, `VitokError`
    where a local disk has too little room."""
    if len(corpora.parts) > 1:
        raise UsageError(f"corpus {corpora.uri!r} is a mixture, whose weights a set of latents does not keep: give one corpus")
    views = corpora.counts[0] * latents.crops
    plans: list[Planned] = []
    for encoder in encoders:
        grid = encoder.grid(size, frames)
        folder = files.join(files.absolute(root), key(encoder, corpora.fingerprint, latents, size, frames))
        rows = views * (1 + latents.flip)
        row_bytes = _row_bytes(grid, encoder.recipe.tokenizer.channels)
        batch = _power_of_two(min(BATCH, BATCH_BYTES // (3 * frames * size**2)))
        each = max(1, min(SHARD_VIEWS, SHARD_BYTES // ((1 + latents.flip) * row_bytes)) // batch) * batch
        finished = files.exists(files.join(folder, MANIFEST)) == "file"
        written = 0 if finished else len(_written(folder, each, batch, views))
        plans.append(Planned(encoder, folder, grid, views, rows, rows * row_bytes, each, batch, written, finished))
    _need_room(root, sum(plan.missing for plan in {plan.folder: plan for plan in plans}.values()))
    return plans


def build(
    corpora: Corpora,
    latents: config.Latents,
    size: int,
    frames: int,
    encoders: list[Encoder],
    root: str,
    actors: int = 1,
    gpus: int = 0,
    progress: Callable[[int, int, int], None] = lambda *_: None,
) -> list[LatentSet]:
    """The set of each encoder, made or gone on with where it is not finished. `gpus` of each actor, 0 or 1. `progress` hears of
    (views done, of all, of them in this call). Needs a connected Ray.

    Raises `UsageError` and `VitokError` as `announce`, `VitokError` where too many views cannot be used or latents are not finite.
    """
    plans = announce(corpora, latents, size, frames, encoders, root)
    waiting = list({plan.folder: _Set(plan) for plan in plans if not plan.finished}.values())
    if waiting:
        rejected = _encode(waiting, reader(corpora, "train", latents.data(), size, frames), corpora, latents, actors, gpus, progress)
        for made in waiting:
            files.tidy(made.plan.folder)
            text = json.dumps(_manifest(made, corpora, latents, size, frames, rejected), indent=1)
            files.write(files.join(made.plan.folder, MANIFEST), text.encode())
    return [open_set(plan.folder) for plan in plans]


def open_set(folder: str) -> LatentSet:
    """Raises `UsageError` where there is no finished set, or it is damaged."""
    uri = files.join(folder, MANIFEST)
    damaged = f"{uri} is damaged (%s): remove {folder} and encode the corpus again"
    try:
        found = json.loads(files.read(uri))
        if found["version"] != VERSION:
            raise UsageError(f"{uri} is of version {found['version']}, this is vitok's {VERSION}: encode the corpus again")
        opened = LatentSet(
            folder, found["weights"], found["variant"], found["corpus"], found["fingerprint"], config.Latents(**found["latents"]),
            int(found["size"]), int(found["frames"]), _grid(found["grid"]), int(found["channels"]), int(found["group_rows"]),
            int(found["rows"]), int(found["views"]), tuple(found["classes"]), tuple(map(int, found["counts"])),
            tuple(map(float, found["mean"])), tuple(map(float, found["std"])),
            tuple((shard["file"], int(shard["rows"])) for shard in found["shards"]), tuple(Rejection(*row) for row in found["rejected"]),
        )  # fmt: skip
    except RejectedError as error:
        raise UsageError(f"{uri} cannot be read ({error}): there are no finished latents") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(damaged % f"{type(error).__name__}: {str(error).splitlines()[0]}") from None
    if sum(rows for _, rows in opened.shards) != opened.rows or len(opened.classes) != len(opened.counts):
        raise UsageError(damaged % "its counts do not add up")
    if not len(opened.mean) == len(opened.std) == opened.channels or not all(map(math.isfinite, opened.mean + opened.std)):
        raise UsageError(damaged % f"mean and std are not {opened.channels} finite numbers each")
    there = {name for name, _ in files.listing(folder)}
    if missing := [name for name, _ in opened.shards if name not in there]:
        raise UsageError(damaged % f"{len(missing)} shard(s) are not there, the first: {missing[0]}")
    return opened


def expect(latents: LatentSet, weights: str) -> None:
    """Raises `UsageError` where the latents are of another tokenizer than the one with these weights (SHA-256)."""
    if latents.weights != weights:
        raise UsageError(
            f"the latents in {latents.folder} are of a tokenizer with weights {latents.weights[:16]}, not of {weights[:16]}: "
            "encode the corpus with this one, or name the other"
        )


def require_labels(found: Corpora | LatentSet) -> None:
    """Raises `UsageError` where samples to train on have no label, as far as that is known without reading them."""
    if isinstance(found, LatentSet):
        missing, whole, what = found.unlabelled, found.rows, "latents"
    else:
        missing, whole, what = sum(_unlabelled(corpus) for _, corpus in found.parts), found.counts[0], "samples"
    if missing:
        which = f"corpus {found.uri!r} has no labels" if missing == whole else f"{missing} of {whole} {what} of {found.uri!r} have no label"
        raise UsageError(f"{which}, which a class-conditional generator needs: give a corpus with classes, or set conditional=false")


@dataclass(frozen=True)
class _Asked:
    """What an actor needs."""

    encoders: list[Encoder]
    firsts: list[int]  # the first view that each encoder's set lacks
    batch: int
    flip: bool
    gpus: int
    reader: Reader


class Encoding:
    """The actor: all tokenizers on one device."""

    def __init__(self, reference: Any) -> None:
        self.asked: _Asked = ray.get(reference)
        self.device = torch.device("cuda" if self.asked.gpus else "cpu")
        if not self.asked.gpus:
            torch.set_num_threads(1)
        self.encoders = [encoder.open(self.device) for encoder in self.asked.encoders]

    def __call__(self, block: Columns) -> Columns:
        """A row a view. What a user must be told goes as a row too: an exception of a task comes back wrapped and logged twice."""
        try:
            return self._encoded(block)
        except VitokError as error:
            return {"error": np.array([str(error)], dtype=object)}

    def _encoded(self, block: Columns) -> Columns:
        found = {name: column for name, column in block.items() if name != "image"}
        for number, encode in enumerate(self.encoders):
            if block["number"][-1] < self.asked.firsts[number]:
                continue
            with torch.inference_mode():
                parts = [
                    _both(
                        encode, torch.from_numpy(block["image"][first : first + self.asked.batch].copy()).to(self.device), self.asked.flip
                    )
                    for first in range(0, len(block["number"]), self.asked.batch)
                ]
            for name in parts[0]:
                found[f"{name}:{number}"] = np.concatenate([part[name] for part in parts])
            finite = np.isfinite(found[f"sums:{number}"]).all(axis=(1, 2, 3)) | ~block["ok"].astype(bool)
            if not finite.all():
                name = self.asked.reader.name(int(block["number"][~finite][0]))
                raise VitokError(f"latents of {name} by the tokenizer {self.asked.encoders[number].weights[:16]} are not finite in fp16")
        return found


def _both(encode: Callable[[Tensor], Posterior], images: Tensor, flip: bool) -> Columns:
    """Of views (B, [T,] H, W, 3) as they are and mirrored (M = 2, or 1): mean and log_variance (B, M, L, c) float16; their sums over
    tokens, which the statistics are made of (B, M, 3, c) float64."""
    found: dict[str, list[Tensor]] = {"mean": [], "log_variance": [], "sums": []}
    for mirrored in (False, True)[: 1 + flip]:
        # Views that could not be decoded are encoded as black: a batch is of one size, whose rounding is its own.
        mean, log_variance = (part.half() for part in encode(images.flip(-2) if mirrored else images))
        exact, noise = mean.double(), log_variance.double().exp()
        found["mean"].append(mean)
        found["log_variance"].append(log_variance)
        found["sums"].append(torch.stack([exact.sum(1), exact.square().sum(1), noise.sum(1)], 1))
    return {name: torch.stack(parts, 1).cpu().numpy() for name, parts in found.items()}


class _Set:
    """A set while it is made: shards that are written, and batches that come."""

    def __init__(self, plan: Planned) -> None:
        self.plan = plan
        self.shards = _written(plan.folder, plan.each, plan.batch, plan.views)
        self.first = self.done = min(len(self.shards) * plan.each, plan.views)
        self.pending: list[Columns] = []

    def add(self, batch: Columns, writer: "_Writer") -> None:
        if batch["number"][0] < self.done:
            return
        self.pending.append(batch)
        self.done += len(batch["number"])
        if self.done % self.plan.each == 0 or self.done == self.plan.views:
            whole = {name: np.concatenate([part[name] for part in self.pending]) for name in batch}
            table, state = _shard(whole, self.plan)
            self.pending = []
            writer.write(files.join(self.plan.folder, _name(len(self.shards))), table)
            self.shards.append(state)


class _Writer:
    """One shard is written while the next is made."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        self.thread = thread
        self.running: Future[None] | None = None

    def write(self, uri: str, table: pa.Table) -> None:
        self.finish()
        self.running = self.thread.submit(files.write, uri, lambda file: _store(table, file))

    def finish(self) -> None:
        if self.running:
            self.running.result()


def _encode(
    sets: list[_Set], views: Reader, corpora: Corpora, latents: config.Latents, actors: int, gpus: int, progress: Callable[..., None]
) -> list[Rejection]:
    """All shards that are missing. What cannot be used."""
    behind = min(sets, key=lambda one: one.first)
    done, total = behind.first, behind.plan.views
    rejected = Rejected(latents.max_rejected, frozenset(corpora.rejected))

    def count(found: list[Rejection], first: int, last: int) -> None:
        drawn = -(-last // latents.crops) - -(-first // latents.crops)  # samples, as the rejected are
        try:
            rejected.add(frozenset(found), drawn, corpora.counts[0])
        except VitokError as error:
            raise VitokError(str(error).replace("data.max_rejected", "latents.max_rejected")) from None

    count([Rejection(*row) for shard in behind.shards for row in shard["rejected"]], 0, done)
    with ThreadPoolExecutor(1) as thread:
        writer = _Writer(thread)
        for block in _blocks(sets, views, latents.flip, actors, gpus):
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


def _blocks(sets: list[_Set], views: Reader, flip: bool, actors: int, gpus: int) -> Iterator[Columns]:
    """Encoded blocks of the views that some set lacks, in order."""
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    batch, total = sets[0].plan.batch, sets[0].plan.views
    first, cpus = min(one.first for one in sets), int(ray.cluster_resources().get("CPU", 1))
    # A block is whole batches; of few views they are cut finer, so that all have something to do.
    largest = min(BLOCK_BYTES // math.prod(views.shape), BLOCK_VIEWS, (total - first) // (4 * cpus))
    each = max(1, largest // batch) * batch
    starts = range(first, total, each)
    asked = ray.put(_Asked([one.plan.encoder for one in sets], [one.first for one in sets], batch, flip, gpus, views))
    for begun in range(0, len(starts), BLOCKS):
        part = starts[begun : begun + BLOCKS]
        blocks = tasks.dataset(_decode(views, part, total), len(part), cpus=DECODING)
        blocks.context.op_resource_reservation_enabled = True  # decoding must leave the actors their share of the store
        encoded = blocks.map_batches(
            Encoding, fn_constructor_args=(asked,), batch_size=None, batch_format="numpy", zero_copy_batch=True,
            compute=ActorPoolStrategy(size=min(actors, len(part))), num_gpus=gpus or None, num_cpus=1 if gpus else 1 - DECODING,
        )  # fmt: skip
        found: Any = encoded.iter_batches(batch_size=None, prefetch_batches=1, batch_format="numpy")
        yield from found


def _decode(views: Reader, starts: range, total: int) -> tasks.Make:
    """A function of its own, not a class: that would bring this module, and so torch, into every process that decodes."""

    def make(block: int) -> tasks.Columns:
        rows = range(starts[block], min(starts[block] + starts.step, total))
        return columns(views.views(rows), views) | {"number": np.array(rows)}

    return make


def _shard(whole: Columns, plan: Planned) -> tuple[pa.Table, dict[str, Any]]:
    """The table of a shard's views, and what its footer says of it."""
    ok, channels = whole["ok"].astype(bool), plan.encoder.recipe.tokenizer.channels
    numbers, labels, times = whole["number"][ok], whole["label"][ok], whole["mean"].shape[1]
    width = _row_bytes(plan.grid, channels) // 2
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
    """Half-precision noise does not compress. A column of a row group is one page."""
    pq.write_table(
        table, file, row_group_size=GROUP_ROWS, compression="none", use_dictionary=False, write_statistics=False,  # pyright: ignore[reportArgumentType]
        data_page_size=1 << 30,
    )  # fmt: skip


def _written(folder: str, each: int, batch: int, views: int) -> list[dict[str, Any]]:
    """What the shards of a set that is not finished say of themselves, up to the first that is missing, damaged or cut otherwise."""
    there = {name for name, _ in files.listing(folder)} if files.exists(folder) == "folder" else set[str]()
    found: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, views, each)):
        if _name(number) not in there:
            break
        try:
            with files.open_file(files.join(folder, _name(number))) as file:
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
        "version": VERSION, "weights": plan.encoder.weights, "variant": variants.name(recipe.tokenizer), "corpus": corpora.uri,
        "fingerprint": corpora.fingerprint, "latents": latents.model_dump(mode="json"), "size": size, "frames": frames,
        "grid": list(plan.grid), "channels": recipe.tokenizer.channels, "tokens": math.prod(plan.grid), "group_rows": GROUP_ROWS,
        "rows": rows, "views": plan.views, "classes": list(classes), "counts": [counts.get(label, 0) for label in range(len(classes))],
        "mean": mean.tolist(), "std": std.tolist(),
        "shards": [
            {"file": _name(number), "rows": shard["rows"], "groups": -(-shard["rows"] // GROUP_ROWS)}
            for number, shard in enumerate(made.shards)
        ],
        "rejected": [[one.name, one.reason, one.detail] for one in rejected],
        "bytes": rows * _row_bytes(plan.grid, recipe.tokenizer.channels),
    }  # fmt: skip


def _need_room(root: str, needed: int) -> None:
    if files.is_remote(root):
        return
    place = Path(files.absolute(root))
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise VitokError(
            f"{root}: the latents need {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free: make room, take another storage, "
            "or fewer latents.crops"
        )


def _unlabelled(corpus: Corpus) -> int:
    """Training samples that are known to have no label."""
    split = corpus.train
    if isinstance(split, Rows):  # labels are within; without a class an ingested corpus has none
        return len(split) if split.columns.label is None or (corpus.layout == "ingested" and not corpus.classes) else 0
    index = split.index()
    return int(np.count_nonzero(index["label"].to_numpy() == NO_LABEL)) if "label" in index.column_names else len(split)


def _name(number: int) -> str:
    return f"shard-{number:05d}.parquet"


def _row_bytes(grid: Grid, channels: int) -> int:
    return 2 * 2 * math.prod(grid) * channels


def _grid(found: list[int]) -> Grid:
    t, y, x = map(int, found)
    return t, y, x


def _power_of_two(most: int) -> int:
    """The largest up to a number, 1 at least."""
    return 1 << max(0, most.bit_length() - 1)
