"""A thousand damaged files and more: each is decoded or rejected with a reason; nothing crashes, hangs or goes uncounted."""

import io
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitok.config import Data
from vitok.data.corpora import sample_motion, sample_photos
from vitok.data.corpora.corpus import open_corpora
from vitok.data.decoding.image import center_clip, center_crop, load
from vitok.data.loading.loader import prepare_source
from vitok.data.sample import Sample
from vitok.errors import RejectedError

REASONS = {"empty", "not an image", "truncated", "corrupt", "too small", "bomb", "unsupported",
           "not a video", "no video stream", "too short"}  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, flipped, overwritten, emptied, doubled, shifted: one to three of them."""
    found = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(max(1, len(found)))
        kind = rng.randrange(6)
        if kind == 0:
            found = found[:place]
        elif kind == 1:
            for _ in range(rng.randint(1, 20)):
                if found:
                    found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
        elif kind == 2:
            found[place : place + 64] = rng.randbytes(min(64, len(found) - place))
        elif kind == 3:
            found[place:place] = rng.randbytes(rng.randint(1, 40))
        elif kind == 4:
            del found[place : place + rng.randint(1, 200)]
        elif rng.random() < 0.1:
            found = bytearray()
    return bytes(found)


def originals() -> dict[str, bytes]:
    with Image.open(sample_photos.locate("skimage/data/chelsea.png")) as image:
        small = image.convert("RGB").resize((120, 80))
    found = {"video": sample_motion.locate("skimage/data/chelsea/pan-left.mp4").read_bytes()}
    for kind, options in {
        "JPEG": {"progressive": True},
        "PNG": {},
        "WEBP": {},
        "GIF": {},
        "TIFF": {"compression": "jpeg"},
        "BMP": {},
    }.items():
        buffer = io.BytesIO()
        small.save(buffer, kind, **options)
        found[kind] = buffer.getvalue()
    return found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "video"])
def test_damage_is_a_picture_or_a_reason(kind: str) -> None:
    data, rng, outcomes, slowest = originals()[kind], random.Random(kind), Counter[str](), 0.0
    count = 120 if kind == "video" else 180
    for n in range(count):
        sample, began = Sample(str(n), 0, damaged(data, rng)), time.perf_counter()
        try:
            if kind == "video":
                assert center_clip(sample, 32, 4, 8.0).shape == (4, 32, 32, 3)
            else:
                assert center_crop(load(sample.data or b"", 0), 32).shape == (32, 32, 3)
            outcomes["decoded"] += 1
        except RejectedError as error:
            assert error.reason in REASONS, error
            outcomes[error.reason] += 1
        slowest = max(slowest, time.perf_counter() - began)
    print(kind, dict(outcomes), f"slowest {slowest:.2f} s")
    assert sum(outcomes.values()) == count and len(outcomes) > 1
    assert slowest < 20


def test_every_damaged_file_of_a_stream_is_counted(cluster: str, tmp_path: Path) -> None:
    rng, files = random.Random(0), originals()
    for n in range(60):
        kind = ("JPEG", "PNG", "WEBP")[n % 3]
        (tmp_path / f"{n:02d}.{kind.lower()}").write_bytes(damaged(files[kind], rng) if n % 2 else files[kind])
    source = prepare_source(open_corpora(str(tmp_path)), Data(max_rejected=1.0), 16)
    bad: set[str] = set()
    for path in tmp_path.iterdir():
        try:
            load(path.read_bytes(), 32)
        except RejectedError:
            bad.add(path.name)
    batches = list(source.batches(seed=0, batch_size=18, start=0, steps=3)) + list(source.validation_batches(6))
    assert {rejection.name for batch in batches for rejection in batch.rejected} == bad and len(bad) > 10
    assert all(isinstance(batch.images, np.ndarray) for batch in batches)
