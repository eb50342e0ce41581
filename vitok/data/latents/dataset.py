"""A set of cached latents: the posterior of every view of a corpus's training split by one tokenizer, in sharded Parquet.

`latents.build` writes a set, `latents.loader` streams it into training.
"""

import json
import math
from dataclasses import dataclass

import numpy as np

from vitok import config
from vitok.data.corpora.corpus import Corpora, Corpus
from vitok.data.corpora.splits import OnBackground, Rows
from vitok.data.loading.reader import describe_views
from vitok.data.sample import NO_LABEL, Rejection
from vitok.errors import RejectedError, UsageError
from vitok.storage import filesystem

Grid = tuple[int, int, int]
MANIFEST, VERSION = "manifest.json", 2


@dataclass(frozen=True)
class LatentSet:
    """A finished set of latents, as its manifest describes it. Small enough to be sent to every trial."""

    folder: str
    weights: str  # of the tokenizer, SHA-256
    variant: str
    uri: str  # of the corpus
    fingerprint: str
    latents: config.Latents
    size: int
    frames: int
    grid: Grid  # of the code
    channels: int
    group_rows: int
    rows: int
    views: int  # of which those that could be decoded have rows
    whole: int  # views that there could be
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # rows of each class
    mean: tuple[float, ...]  # of the sampled latents, a channel
    std: tuple[float, ...]
    shards: tuple[tuple[str, int], ...]  # (file, rows)
    rejected: tuple[Rejection, ...]

    @property
    def tokens(self) -> int:
        """The number of tokens L of one view."""
        return math.prod(self.grid)

    @property
    def row_bytes(self) -> int:
        """The bytes of mean and log-variance of one row."""
        return row_bytes(self.grid, self.channels)

    @property
    def bytes(self) -> int:
        """The bytes of mean and log-variance of all rows."""
        return self.rows * self.row_bytes

    @property
    def unlabelled(self) -> int:
        """The number of rows without a label."""
        return self.rows - sum(self.counts)

    @property
    def about(self) -> str:
        """A description of how the views are cut, for an evaluation protocol."""
        return describe_views(self.latents.data(), self.frames, self.views, self.whole)


def open_set(folder: str) -> LatentSet:
    """Open a finished set from its manifest. Raise `UsageError` where there is none, or it is damaged or of another version."""
    uri = filesystem.join(folder, MANIFEST)
    damaged = f"{uri} is damaged (%s): remove {folder} and encode the corpus again"
    try:
        found = json.loads(filesystem.read(uri))
        if found["version"] != VERSION:
            raise UsageError(f"{uri} is of version {found['version']}, this is vitok's {VERSION}: encode the corpus again")
        opened = LatentSet(
            folder, found["weights"], found["variant"], found["corpus"], found["fingerprint"], config.Latents(**found["latents"]),
            int(found["size"]), int(found["frames"]), _grid(found["grid"]), int(found["channels"]), int(found["group_rows"]),
            int(found["rows"]), int(found["views"]), int(found["whole"]), tuple(found["classes"]), tuple(map(int, found["counts"])),
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
    there = {name for name, _ in filesystem.listing(folder)}
    if missing := [name for name, _ in opened.shards if name not in there]:
        raise UsageError(damaged % f"{len(missing)} shard(s) are not there, the first: {missing[0]}")
    return opened


def require_tokenizer(latents: LatentSet, weights: str) -> None:
    """Raise `UsageError` where the latents were not made by the tokenizer with these weights (SHA-256 hex digits)."""
    if latents.weights != weights:
        raise UsageError(
            f"the latents in {latents.folder} are of a tokenizer with weights {latents.weights[:16]}, not of {weights[:16]}: "
            "encode the corpus with this one, or name the other"
        )


def require_labels(found: Corpora | LatentSet) -> None:
    """Raise `UsageError` where training samples have no label, as far as that is known without reading them."""
    if isinstance(found, LatentSet):
        missing, whole, what = found.unlabelled, found.rows, "latents"
    else:
        missing, whole, what = sum(_unlabelled(corpus) for _, corpus in found.parts), found.counts[0], "samples"
    if missing:
        which = f"corpus {found.uri!r} has no labels" if missing == whole else f"{missing} of {whole} {what} of {found.uri!r} have no label"
        raise UsageError(f"{which}, which a class-conditional generator needs: give a corpus with classes, or set conditional=false")


def _unlabelled(corpus: Corpus) -> int:
    """Return the number of training samples that are known to have no label."""
    split = corpus.train.split if isinstance(corpus.train, OnBackground) else corpus.train
    if isinstance(split, Rows):  # labels are within; without a class an ingested corpus has none
        return len(split) if split.columns.label is None or (corpus.layout == "ingested" and not corpus.classes) else 0
    index = split.index()
    return int(np.count_nonzero(index["label"].to_numpy() == NO_LABEL)) if "label" in index.column_names else len(split)


def row_bytes(grid: Grid, channels: int) -> int:
    """Return the bytes of one row: mean and log-variance, two bytes a number, over a (T, H, W) grid of tokens."""
    return 2 * 2 * math.prod(grid) * channels


def _grid(found: list[int]) -> Grid:
    t, y, x = map(int, found)
    return t, y, x
