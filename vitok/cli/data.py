"""`vitok data`: what is in a corpus, and how to make it stream."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitok.errors import UsageError, VitokError

AsJson = Annotated[bool, tyro.conf.arg(name="json")]
EVERY = 10.0  # seconds between plain lines


def ingest(
    source: tyro.conf.Positional[str], target: tyro.conf.Positional[str], /, *, min_side: int = 0, max_side: int = 0,
    min_seconds: float = 0.0, max_seconds: float = 0.0, validation: float = 0.0, shard_mb: int = 256, group_rows: int | None = None,
    part_samples: int | None = None, max_rejected: float = 0.05, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Turn any corpus into sharded Parquet that streams: checked by decoding, without exact duplicates, in random order.

    Killed at any moment and run again, it goes on; the result is the same. Runs on the cluster of RAY_ADDRESS, or here.

    Args:
        source: A folder, s3://, gs://, hf:// or an embedded corpus; images, videos, tars, Parquet, IDX.
        target: A new folder, here or in a store.
        min_side: Leave out what has a shorter side (pixels).
        max_side: Shrink images whose longer side is longer (pixels); 0 keeps every file as it is.
        min_seconds: Leave out shorter videos.
        max_seconds: Leave out longer videos; 0 keeps all.
        validation: Share to hold out by the content's hash; 0 keeps the source's own splits.
        shard_mb: Size of a shard.
        group_rows: Samples that are read as one: 32 images or 4 videos.
        part_samples: Samples of a task, what is done again after a kill: 1000 images or 64 videos.
        max_rejected: Share of samples that may be broken.
        as_json: Print the manifest for programs.
    """
    for name, value in (("--shard-mb", shard_mb), ("--group-rows", group_rows), ("--part-samples", part_samples)):
        if value is not None and value < 1:
            raise UsageError(f"{name} {value}: it must be at least 1")
    for name, share in (("--validation", validation), ("--max-rejected", max_rejected)):
        if not 0 <= share < 1:
            raise UsageError(f"{name} {share:g}: it is a share, from 0 to below 1")
    from vitok.data.corpora.corpus import Corpus, open_source

    corpus = open_source(source)
    if isinstance(corpus, Corpus):
        print(corpus, file=sys.stderr)
    video = corpus.kind == "video"
    from vitok.data.ingest import ingest as ingestion
    from vitok.orchestration import preflight, session
    from vitok.orchestration.capacity import in_cluster
    from vitok.storage import mirror

    options = ingestion.IngestOptions(
        min_side, max_side, min_seconds, max_seconds, validation, shard_mb, group_rows or (4 if video else 32),
        part_samples or (64 if video else 1000), max_rejected,
    )  # fmt: skip
    session.connect(None)
    if in_cluster():
        preflight.check(mirror.local_path(target), tracked=False)
    with session.results_apart(), _progress() as progress:
        manifest = ingestion.ingest(corpus, target, options, progress)
    if as_json:
        print(json.dumps(manifest, indent=1))
        return
    counts, rejected = manifest["counts"], manifest["rejected"]
    size, shards = manifest["bytes"] / 1e6, len(manifest["shards"])
    print(f"{target}: {counts['train']} to train on, {counts['validation']} held out, {size:.1f} MB in {shards} shards")
    print(f"  {manifest['duplicates']} duplicates dropped, fingerprint {manifest['fingerprint']}")
    for reason, entry in rejected.items():
        print(f"  {entry['count']} {reason}, as {entry['examples'][0]}")


def stats(source: tyro.conf.Positional[str], /, *, look_at: int = 200, as_json: AsJson = False) -> None:
    """Show what is in a corpus: counts, sizes, durations, classes.

    Args:
        source: A corpus, as studies take it.
        look_at: Samples of each split that are decoded for it, evenly spread.
        as_json: Print JSON for programs.
    """
    from vitok.data.corpora.corpus import open_corpus
    from vitok.data.ingest import inspect

    corpus = open_corpus(source)
    print(corpus, file=sys.stderr)
    found = inspect.stats(corpus, look_at)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        if isinstance(value, dict) and "histogram" in value:
            print(f"{name:<12} " + "  ".join(f"{key} {number:g}" for key, number in value.items() if key != "histogram"))
            print("             " + _bars(value["histogram"]))
        elif isinstance(value, dict):
            print(f"{name:<12} " + (", ".join(f"{key} {number}" for key, number in list(value.items())[:12]) or "none"))
        elif value or value == 0:
            print(f"{name:<12} {'; '.join(value) if isinstance(value, list) else value}")


def preview(source: tyro.conf.Positional[str], /, *, out: Path = Path("preview.png"), count: int = 32, side: int = 96) -> None:
    """Draw a contact sheet of a corpus as PNG; videos as strips of frames.

    Args:
        source: A corpus, as studies take it.
        out: The file to write.
        count: Samples shown, evenly spread over the training split.
        side: Of each square, pixels.
    """
    from vitok.data.corpora.corpus import open_corpus
    from vitok.data.ingest import inspect
    from vitok.storage import filesystem

    if count < 1 or side < 8:
        raise UsageError(f"--count {count} --side {side}: at least 1 and 8")
    filesystem.write(str(out.absolute()), inspect.preview(open_corpus(source), count, side))
    print(out)


def verify(target: tyro.conf.Positional[str], /) -> None:
    """Check every shard of an ingested corpus against its manifest. Exit code 1 if one is wrong.

    Args:
        target: What `vitok data ingest` wrote.
    """
    from vitok.data.corpora import ingested
    from vitok.data.ingest import inspect
    from vitok.storage import filesystem

    root = filesystem.absolute(target)
    if filesystem.exists(filesystem.join(root, ingested.MANIFEST)) != "file":
        raise UsageError(f"{target!r} holds no {ingested.MANIFEST}: it is not, or not yet, ingested")
    if wrong := inspect.verify(root):
        raise VitokError(f"{len(wrong)} file(s) differ from the manifest: " + "; ".join(wrong[:10]))
    print(f"{target}: all shards are as the manifest says")


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int, int], None]]:
    """Show progress: bars with rate and remaining time on a terminal, a line every few seconds elsewhere."""
    began, moved, last = time.monotonic(), 0, 0.0
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns: Any = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            tasks: dict[str, Any] = {}

            def show(stage: str, done: int, total: int, size: int) -> None:
                nonlocal moved
                moved += size
                if stage not in tasks:
                    tasks[stage] = bars.add_task(stage, total=total, rate="")
                bars.update(tasks[stage], completed=done, rate=f"{moved / 1e6 / (time.monotonic() - began):.1f} MB/s")

            yield show
        return

    def say(stage: str, done: int, total: int, size: int) -> None:
        nonlocal moved, last
        moved, now = moved + size, time.monotonic()
        if now - last < EVERY and done < total:
            return
        last, spent = now, now - began
        remaining = f", about {spent / done * (total - done):.0f} s left" if done < total else ""
        print(f"{stage}: {done} of {total} tasks, {moved / 1e6 / spent:.1f} MB/s{remaining}", file=sys.stderr, flush=True)

    yield say


def _bars(histogram: dict[str, Any]) -> str:
    most = max(histogram["counts"]) or 1
    levels = "".join(" .:-=+*#%@"[round(9 * count / most)] for count in histogram["counts"])
    return f"{histogram['edges'][0]:g} |{levels}| {histogram['edges'][-1]:g}"
