"""Inspect a corpus: statistics, a contact sheet, and a check of an ingested corpus against its manifest."""

import hashlib
import io
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vitok.data.corpora import ingested
from vitok.data.corpora.corpus import Corpus
from vitok.data.corpora.splits import Split
from vitok.data.decoding.image import center_clip, center_crop, is_transparent, lacks_end, load, open_video
from vitok.data.sample import Sample
from vitok.errors import RejectedError, VitokError
from vitok.storage import filesystem

FRAMES, FPS = 6, 4.0  # of a strip


@dataclass(frozen=True)
class InspectedSample:
    """The properties of one decoded sample."""

    label: int
    size: int  # bytes
    width: int
    height: int
    seconds: float | None


def stats(corpus: Corpus, look_at: int) -> dict[str, Any]:
    """Return statistics of a corpus, as shown by `vitok data stats`: counts of the whole corpus; sizes, durations and labels of
    `look_at` evenly spread samples of each split, decoded."""
    rejected: Counter[str] = Counter(rejection.reason for rejection in corpus.rejected)
    seen: dict[str, list[InspectedSample]] = {}
    warned: Counter[str] = Counter()
    for name, split in _splits(corpus).items():
        seen[name] = []
        for unit, row in spread(split, look_at):
            try:
                sample = split.get(unit, row)
                seen[name].append(_look(sample, corpus.kind == "video"))
                warned.update(["no end marker"] * lacks_end(sample.data or b""))
                if corpus.kind == "image" and is_transparent(sample.data or b""):
                    behind = sample.background or "ignored, hidden colours are seen (?background=white)"
                    warned[f"transparent pixels: {behind}"] += 1
            except RejectedError as error:
                rejected[error.reason] += 1
    every = [one for part in seen.values() for one in part]
    labels = Counter(corpus.classes[one.label] if 0 <= one.label < len(corpus.classes) else "none" for one in every)
    found: dict[str, Any] = {
        "uri": corpus.uri, "layout": corpus.layout, "kind": corpus.kind, "fingerprint": corpus.fingerprint,
        "samples": {name: len(split) for name, split in _splits(corpus).items()}, "classes": len(corpus.classes),
        "looked_at": len(every), "rejected": dict(rejected), "passed_over": {one.reason: one.count for one in corpus.passed_over},
        "read_with_a_warning": dict(warned), "notes": list(corpus.notes),
        "short_side": _summary([min(one.width, one.height) for one in every]), "kilobytes": _summary([one.size / 1000 for one in every]),
        "labels": dict(labels.most_common()),
    }  # fmt: skip
    if corpus.kind == "video":
        found["seconds"] = _summary([one.seconds for one in every if one.seconds is not None])
    return found


def preview(corpus: Corpus, count: int, side: int) -> bytes:
    """Return a contact sheet as PNG: `count` evenly spread training samples of `side` pixels with their classes; videos as strips of
    frames. Raise `VitokError` where there are no samples."""
    cells: list[tuple[np.ndarray, str]] = []
    for unit, row in spread(corpus.train, count):
        try:
            sample = corpus.train.get(unit, row)
            label = corpus.classes[sample.label] if 0 <= sample.label < len(corpus.classes) else ""
            if corpus.kind == "video":
                strip = np.concatenate(list(center_clip(sample, side, FRAMES, FPS)), axis=1)
                cells.append((strip, label))
            else:
                cells.append((center_crop(load(sample.data or b"", 0, sample.background), side), label))
        except RejectedError as error:
            wide = side * (FRAMES if corpus.kind == "video" else 1)
            cells.append((np.full((side, wide, 3), 64, np.uint8), f"{corpus.train.name(unit, row)}: {error.reason}"))
    if not cells:
        raise VitokError(f"{corpus.uri!r} has nothing to show")
    return _sheet(cells, 2 if corpus.kind == "video" else 8)


def verify(root: str) -> list[str]:
    """Read every shard of an ingested corpus and return its differences from the manifest, one line each. Raise `UsageError` where the
    manifest is damaged."""
    stated = ingested.manifest(root)
    wrong: list[str] = []
    for shard in stated["shards"]:
        try:
            data = filesystem.read(filesystem.join(root, shard["file"]))
        except RejectedError as error:
            wrong.append(f"{shard['file']}: {error.reason}")
            continue
        if len(data) != shard["bytes"]:
            wrong.append(f"{shard['file']}: {len(data)} bytes instead of {shard['bytes']}")
        elif hashlib.sha256(data).hexdigest() != shard["sha256"]:
            wrong.append(f"{shard['file']}: its content has changed")
    extra = {name for name, _ in filesystem.listing(root)} - {shard["file"] for shard in stated["shards"]} - {ingested.MANIFEST}
    return wrong + [f"{name}: not in the manifest" for name in sorted(extra)]


def spread(split: Split, count: int) -> list[tuple[int, int]]:
    """Return (unit, row) of at most `count` samples, evenly spread over a split."""
    chosen = np.unique(np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int)) if len(split) else np.empty(0, int)
    if split.units is None:
        return [(int(n), 0) for n in chosen]
    ends = np.cumsum(split.units)
    units = np.searchsorted(ends, chosen, side="right")
    return [(int(u), int(n - (ends[u - 1] if u else 0))) for u, n in zip(units, chosen, strict=True)]


def _splits(corpus: Corpus) -> dict[str, Split]:
    return {"train": corpus.train, "validation": corpus.validation}


def _look(sample: Sample, video: bool) -> InspectedSample:
    if video:
        with open_video(sample) as opened:
            size = filesystem.size(sample.uri) if sample.data is None else len(sample.data)
            return InspectedSample(sample.label, size, opened.width, opened.height, opened.seconds)
    image = load(sample.data or b"", 0)
    return InspectedSample(sample.label, len(sample.data or b""), *image.size, None)


def _summary(values: list[Any]) -> dict[str, Any]:
    """Return percentiles, and a histogram of ten bins between the extremes."""
    if not values:
        return {}
    array = np.asarray(values, float)
    counts, edges = np.histogram(array, bins=10)
    names = {"min": 0, "p10": 10, "median": 50, "p90": 90, "max": 100}
    return {name: round(float(np.percentile(array, p)), 3) for name, p in names.items()} | {
        "histogram": {"edges": [round(float(e), 3) for e in edges], "counts": counts.tolist()}
    }


def _sheet(cells: list[tuple[np.ndarray, str]], columns: int) -> bytes:
    high, wide = cells[0][0].shape[0] + 14, cells[0][0].shape[1] + 4
    rows = -(-len(cells) // columns)
    sheet = Image.new("RGB", (wide * min(columns, len(cells)), high * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (pixels, text) in enumerate(cells):
        left, top = number % columns * wide, number // columns * high
        sheet.paste(Image.fromarray(pixels), (left, top))
        draw.text((left + 2, top + high - 13), text[: max(4, wide // 6)], fill="black")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()
