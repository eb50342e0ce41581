"""Samples a second from cached latents, beside decoding and encoding them on the fly.

    python -m tests.benchmarks.latents [small] [large]

Small: centre crops of 32 pixels of JPEGs of 256, encoded by a T-M/8, on this machine's CPUs; in turn, in one run: decode and encode
on the fly (Ray Data decodes, this process encodes), encode alone (of pixels in memory), and cached latents. Large: latents of random
numbers of the shape of a S-B/16's at 256 pixels, c = 16, three windows of them, read from a file system that has them in its memory.

The floor of a batch is its bytes over the rate of memcpy in this process.
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE, CHANNELS, PHOTOGRAPHS, CORES, ROUNDS = 32, 16, 1024, len(os.sched_getaffinity(0)), 3
BATCHES = (16, 64, 256)
LARGE_ROWS, LARGE_SHARD = 48 << 10, 16 << 10  # of 16 kB


def photographs(folder: Path) -> None:
    """Squares of 256 pixels cut from the sample photographs."""
    from PIL import Image

    from vitok.data.corpora import sample_photos

    sources = [Image.open(sample_photos.locate(name)).convert("RGB") for name in sample_photos.TRAIN]
    for n in range(PHOTOGRAPHS):
        image, rng = sources[n % len(sources)], np.random.default_rng(n)
        side = min(image.size) * rng.uniform(0.4, 1.0)
        left, top = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
        (folder / str(n % 4)).mkdir(exist_ok=True)
        image.resize((256, 256), box=(left, top, left + side, top + side)).save(folder / str(n % 4) / f"{n:05d}.jpg", quality=90)


def memcpy() -> float:
    """Bytes a second."""
    source, target = np.ones(256 << 20, np.uint8), np.ones(256 << 20, np.uint8)
    began = time.perf_counter()
    for _ in range(8):
        np.copyto(target, source)
    return 8 * len(source) / (time.perf_counter() - began)


def rate(batches: Iterator[Any], size: int, seconds: float) -> float:
    """Samples a second after the first batch."""
    next(batches)
    began, seen = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < seconds:
        next(batches)
        seen += size
    return seen / spent


def small() -> None:
    import ray
    import torch

    from vitok.config import Latents, Recipe, variants
    from vitok.data.corpora.corpus import open_corpora
    from vitok.data.latents.build import build
    from vitok.data.latents.encode import LatentEncoder
    from vitok.data.latents.loader import LatentSource
    from vitok.data.loading import blocks
    from vitok.data.loading.loader import columns, open_reader
    from vitok.models.tokenizer import Tokenizer

    recipe = Recipe(tokenizer=variants.tokenizer("T-M/8", channels=CHANNELS, size=SIZE), precision="fp32")
    encoder = LatentEncoder.of(recipe, Tokenizer(recipe.tokenizer).state_dict())
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "photos").mkdir()
        photographs(Path(name) / "photos")
        ray.init(address="local", num_cpus=CORES, logging_level=logging.ERROR, log_to_driver=False)
        corpora, views = open_corpora(str(Path(name) / "photos")), Latents()
        began = time.perf_counter()
        (found,) = build(corpora, views, SIZE, 1, [encoder], str(Path(name) / "latents"), actors=max(1, CORES - 1))
        print(f"{found.rows} rows of {found.row_bytes} bytes built in {time.perf_counter() - began:.1f} s; {CORES} cores")
        decoder, encode = open_reader(corpora, "train", views.data(), SIZE, 1), encoder.open(torch.device("cpu"))
        count = sum(decoder.counts)

        def encoded(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                posterior = encode(torch.from_numpy(images.copy()))
            return torch.stack(list(posterior)).half().numpy()

        def fly(size: int) -> Iterator[np.ndarray]:
            def make(n: int) -> blocks.Columns:
                return columns(decoder.views([view % count for view in range(n * size, (n + 1) * size)]), decoder)

            for block in blocks.stream(make, 1 << 14, size * 3 * SIZE**2):
                yield encoded(block["image"])

        def from_pixels(size: int) -> Iterator[np.ndarray]:
            images = np.stack([one.pixels for one in decoder.views(range(size)) if one.pixels is not None])
            while True:
                yield encoded(images)

        def cached(size: int) -> Iterator[Any]:
            return LatentSource(found).batches(seed=0, batch_size=size, start=0, steps=1 << 40)

        ways: dict[str, tuple[Callable[[int], Iterator[Any]], float]] = {
            "fly": (fly, 6.0), "encode": (from_pixels, 2.0), "cached": (cached, 2.0)
        }  # fmt: skip
        copied = memcpy()
        print(f"memcpy {copied / 1e9:.1f} GB/s")
        print("batch  decode+encode/s  encode/s  cached/s  ms a batch  to decode+encode  to encode  of the floor")
        for size in BATCHES:
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, (batches, seconds) in ways.items():
                    made: Any = batches(size)
                    rates[way].append(rate(made, size, seconds))
                    made.close()  # or it would go on beside what is measured next
            every, alone, ours = (float(np.mean(rates[way])) for way in ways)
            print(f"{size:5d}  {every:15.0f}  {alone:8.0f}  {ours:8.0f}  {1e3 * size / ours:10.3f}  {ours / every:16.0f}  "
                  f"{ours / alone:9.0f}  {ours * found.row_bytes / copied:12.0%}", flush=True)  # fmt: skip
        ray.shutdown()


def large() -> None:
    import pyarrow as pa

    from vitok.config import Latents
    from vitok.data.latents import build
    from vitok.data.latents.dataset import LatentSet
    from vitok.data.latents.loader import LatentSource
    from vitok.storage import filesystem

    grid, rng = (1, 16, 16), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        shards: list[tuple[str, int]] = []
        for first in range(0, LARGE_ROWS, LARGE_SHARD):
            data = pa.py_buffer(rng.standard_normal((LARGE_SHARD, 256 * CHANNELS), np.float32).astype("<f2"))
            column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(512 * CHANNELS), LARGE_SHARD, [None, data])
            labels = pa.array(np.arange(first, first + LARGE_SHARD) % 1000, pa.int32())
            table = pa.table({"view": labels, "mirrored": pa.array(np.zeros(LARGE_SHARD, bool)), "label": labels, "mean": column,
                              "log_variance": column})  # fmt: skip
            filesystem.write(f"{name}/{first}.parquet", lambda file, table=table: build._store(table, file))
            shards.append((f"{first}.parquet", LARGE_SHARD))
        found = LatentSet(
            name, "", "S-B/16", "", "", Latents(), 256, 1, grid, CHANNELS, build.GROUP_ROWS, LARGE_ROWS, LARGE_ROWS,
            LARGE_ROWS, (), (), (0.0,) * CHANNELS, (1.0,) * CHANNELS, tuple(shards), (),
        )  # fmt: skip
        copied = memcpy()
        print(f"{found.rows} rows of {found.row_bytes} bytes, {found.bytes / 1e6:.0f} MB; memcpy {copied / 1e9:.1f} GB/s")
        print("batch  first s  cached/s  ms a batch  longest ms  of the floor")
        for size in BATCHES:
            steps, waits = 2 * LARGE_ROWS // size, list[float]()
            began = time.perf_counter()
            batches = LatentSource(found).batches(seed=0, batch_size=size, start=0, steps=steps)
            for _ in range(steps):
                asked = time.perf_counter()
                next(batches)
                waits.append(time.perf_counter() - asked)
            ours = size * (steps - 1) / (time.perf_counter() - began - waits[0])
            print(f"{size:5d}  {waits[0]:7.2f}  {ours:8.0f}  {1e3 * np.median(waits):10.3f}  {1e3 * max(waits[1:]):10.0f}  "
                  f"{ours * found.row_bytes / copied:12.0%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    for part in sys.argv[1:] or ["small", "large"]:
        {"small": small, "large": large}[part]()
