"""Images and clips a second, beside what a user would pick instead; and memory over time.

    python -m tests.benchmarks.streaming [images] [video] [memory]

Images: 400-pixel JPEGs to random 256-pixel crops, from an ingested corpus by vitok, from webdataset tars by torch's
DataLoader, and by the bare decoder in as many processes; all with the same decode and crop, in turn, in one run. On as
many cores as it may use: `taskset -c 0 python -m tests.benchmarks.streaming images` for one.
"""

import logging
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

SIZE, BATCH, CORES, ROUNDS, STEPS = 256, 32, len(os.sched_getaffinity(0)), 4, 160
CLIP_STEPS = 50  # of 8 clips


def photographs(folder: Path, count: int) -> list[bytes]:
    """JPEGs of 400 x 533 pixels cut from the sample photographs."""
    from PIL import Image

    from vitok.data.corpora import sample_photos

    sources = [Image.open(sample_photos.locate(name)).convert("RGB") for name in sample_photos.TRAIN]
    found: list[bytes] = []
    for n in range(count):
        image, rng = sources[n % len(sources)], np.random.default_rng(n)
        scale = 0.75 * rng.uniform(0.7, 1.0)
        high = min(image.height, image.width * 0.75) * scale / 0.75
        left, top = rng.uniform(0, image.width - high / 0.75), rng.uniform(0, image.height - high)
        buffer = BytesIO()
        image.resize((533, 400), box=(left, top, left + high / 0.75, top + high)).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
        (folder / f"{n:05d}.jpg").write_bytes(buffer.getvalue())
    return found


def crop(data: bytes, seed: int) -> np.ndarray:
    from vitok.data.decoding.image import load, random_crop

    return random_crop(load(data, 2 * SIZE), SIZE, 0.35, np.random.default_rng(seed))


def bare(names: list[str]) -> int:
    return sum(crop(Path(name).read_bytes(), n).shape[0] > 0 for n, name in enumerate(names))


def bare_rate(paths: list[str]) -> float:
    """Images a second of the decoder alone, in as many processes as cores."""
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(bare, [paths[:20]] * CORES))
        began = time.perf_counter()
        list(pool.map(bare, [paths[n * 50 : (n + 1) * 50] for n in range(len(paths) // 50)]))
        return len(paths) / (time.perf_counter() - began)


def rate(batches: Iterator[Any], steps: int) -> tuple[float, float, float]:
    """(seconds to the first batch, samples a second after it, longest wait for a batch after the tenth)"""
    began = time.perf_counter()
    next(batches)
    seen, longest = 0, 0.0
    first = last = time.perf_counter()
    for number in range(1, steps):
        seen, now = seen + len(next(batches)), time.perf_counter()
        if number > 10:
            longest = max(longest, now - last)
        last = now
    return first - began, seen / (last - first), longest


def to_crop(item: tuple[bytes]) -> np.ndarray:
    return crop(item[0], int.from_bytes(os.urandom(4), "little"))


def loader_of_tars(pattern: str) -> Any:
    import torch
    import webdataset

    dataset = (
        webdataset.compat.WebDataset(pattern, shardshuffle=100, resampled=True).shuffle(1000, initial=100).to_tuple("jpg").map(to_crop)
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=CORES, collate_fn=np.stack)  # pyright: ignore[reportArgumentType]
    return iter(loader)


def images() -> None:
    import ray

    from vitok.config import Data
    from vitok.data.corpora.corpus import open_corpora, open_corpus
    from vitok.data.ingest import ingest as ingestion
    from vitok.data.loading.loader import prepare_source

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "photos").mkdir()
        files = photographs(root / "photos", 2000)
        for shard in range(4):
            with tarfile.open(root / f"shard-{shard}.tar", "w") as tar:
                for n in range(shard * 500, (shard + 1) * 500):
                    info = tarfile.TarInfo(f"{n:05d}.jpg")
                    info.size = len(files[n])
                    tar.addfile(info, BytesIO(files[n]))
        ray.init(address="local", num_cpus=CORES, logging_level=logging.ERROR, log_to_driver=False)
        options = ingestion.IngestOptions(shard_mb=32)
        ingestion.ingest(open_corpus(str(root / "photos")), str(root / "ingested"), options, lambda *_: None)
        source = prepare_source(open_corpora(str(root / "ingested")), Data(), SIZE)
        paths = [str(path) for path in sorted((root / "photos").iterdir())]
        print(f"{len(paths)} JPEGs of 400 x 533, {sum(map(len, files)) / len(files) / 1000:.0f} kB each; {CORES} cores; crops of {SIZE}")
        print("round  bare/s  webdataset/s  first s  vitok/s  first s  longest wait s  to webdataset  to bare")
        rates: list[tuple[float, float, float]] = []
        for turn in range(ROUNDS):
            before = bare_rate(paths)
            loader = loader_of_tars(str(root / "shard-{0..3}.tar"))
            theirs = rate(loader, STEPS)
            loader._shutdown_workers()  # or they would go on beside what is measured next
            batches = source.batches(seed=turn, batch_size=BATCH, start=0, steps=STEPS)
            ours = rate((batch.images for batch in batches), STEPS)
            every = (before + bare_rate(paths)) / 2
            rates.append((every, theirs[1], ours[1]))
            print(f"{turn:5d}  {every:6.0f}  {theirs[1]:12.0f}  {theirs[0]:7.2f}  {ours[1]:7.0f}  {ours[0]:7.2f}  "
                  f"{ours[2]:14.2f}  {ours[1] / theirs[1]:13.2f}  {ours[1] / every:7.2f}", flush=True)  # fmt: skip
        every, theirs, ours = np.mean(rates, axis=0)
        print(f"mean   {every:6.0f}  {theirs:12.0f}  {'':7}  {ours:7.0f}  {'':23}  {ours / theirs:13.2f}  {ours / every:7.2f}")
        ray.shutdown()


def videos(folder: Path, count: int) -> list[str]:
    """H.264 of 640 x 360, 20 s at 30 frames a second, a key frame every two seconds: a photograph drifting by."""
    import av
    from PIL import Image

    from vitok.data.corpora import sample_photos

    found: list[str] = []
    for n in range(count):
        image = Image.open(sample_photos.locate(sample_photos.TRAIN[n % len(sample_photos.TRAIN)])).convert("RGB").resize((1280, 720))
        path = folder / f"{n}.mp4"
        with av.open(str(path), "w") as out:
            stream: Any = out.add_stream("libx264", rate=30, options={"preset": "veryfast", "g": "60"})
            stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
            for k in range(600):
                frame = av.VideoFrame.from_image(image.crop((k % 640, k % 360, k % 640 + 640, k % 360 + 360)))
                out.mux(stream.encode(frame))
            out.mux(stream.encode())
        found.append(str(path))
    return found


class Clips:
    """What a user would write: a map dataset over PyAV, with the same sampling; seeking or decoding from zero."""

    def __init__(self, paths: list[str], seek: bool) -> None:
        self.paths, self.seek = paths, seek

    def __len__(self) -> int:
        return 10_000

    def __getitem__(self, index: int) -> np.ndarray:
        from vitok.data.decoding.image import random_clip
        from vitok.data.sample import Sample

        path, rng = self.paths[index % len(self.paths)], np.random.default_rng(index)
        if self.seek:
            return random_clip(Sample("", 0, uri=path), 128, 16, 8.0, 1.0, rng)
        import av

        start = rng.uniform(0, 18)
        wanted, found = [start + k / 8 for k in range(16)], list[np.ndarray]()
        with av.open(path) as video:
            video.streams.video[0].codec_context.thread_count = 1
            for frame in video.decode(video=0):
                if frame.time is not None and len(found) < 16 and frame.time >= wanted[len(found)]:
                    found.append(frame.reformat(228, 128, "rgb24").to_ndarray()[:, 50:178])
                if len(found) == 16:
                    break
        return np.stack(found + [found[-1]] * (16 - len(found)))


def video() -> None:
    import ray
    import torch

    from vitok.config import Data
    from vitok.data.corpora.corpus import open_corpora
    from vitok.data.loading.loader import prepare_source

    with tempfile.TemporaryDirectory() as name:
        paths = videos(Path(name), 12)
        ray.init(address="local", num_cpus=CORES, logging_level=logging.ERROR, log_to_driver=False)
        source = prepare_source(open_corpora(name), Data(smallest_crop=1.0), 128, frames=16)
        print(f"clips of 16 at 8 fps, 128 pixels, of 20 s of 640 x 360 with a key frame every 2 s; {CORES} cores")
        print(f"first batch where nothing of Ray Data's runs yet: {rate(clips(source, 0, 10), 10)[0]:.2f} s")
        print("round  loader from zero/s  loader seeking/s  vitok/s  first s  to seeking  to from zero")
        rates: list[tuple[float, float, float]] = []
        for turn in range(ROUNDS):
            found: list[float] = []
            for seek, steps in ((False, CLIP_STEPS // 2), (True, CLIP_STEPS)):
                loader = torch.utils.data.DataLoader(Clips(paths, seek), batch_size=8, num_workers=CORES, collate_fn=np.stack)  # pyright: ignore[reportArgumentType]
                batches: Any = iter(loader)
                found.append(rate(batches, steps)[1])
                batches._shutdown_workers()
            zero, seeking = found
            first, ours, _ = rate(clips(source, turn, CLIP_STEPS), CLIP_STEPS)
            rates.append((zero, seeking, ours))
            print(
                f"{turn:5d}  {zero:18.1f}  {seeking:16.1f}  {ours:7.1f}  {first:7.2f}  {ours / seeking:10.2f}  {ours / zero:12.2f}",
                flush=True,
            )
        zero, seeking, ours = np.mean(rates, axis=0)
        print(f"mean   {zero:18.1f}  {seeking:16.1f}  {ours:7.1f}  {'':7}  {ours / seeking:10.2f}  {ours / zero:12.2f}")
        ray.shutdown()


def clips(source: Any, seed: int, steps: int) -> Iterator[np.ndarray]:
    return (batch.images for batch in source.batches(seed=seed, batch_size=8, start=0, steps=steps))


def memory() -> None:
    """An object store of 200 MB, and ten times as much decoded through it."""
    import psutil
    import ray

    from vitok.config import Data
    from vitok.data.corpora.corpus import open_corpora
    from vitok.data.loading.loader import prepare_source

    with tempfile.TemporaryDirectory() as name:
        photographs(Path(name), 1000)
        ray.init(address="local", object_store_memory=200 << 20, logging_level=logging.ERROR, log_to_driver=False)
        source = prepare_source(open_corpora(name), Data(), SIZE)
        print("decoded MB  resident MB of this process and Ray's workers  of these shared")
        seen = 0
        for number, batch in enumerate(source.batches(seed=0, batch_size=BATCH, start=0, steps=350)):
            seen += batch.images.nbytes
            if number % 50 == 0:
                mine = psutil.Process()
                infos = [p.memory_info() for p in (mine, *mine.children(recursive=True)) if "ray::" in p.name() or p == mine]
                print(
                    f"{seen / 1e6:10.0f}  {sum(i.rss for i in infos) / 1e6:49.0f}  {sum(i.shared for i in infos) / 1e6:15.0f}", flush=True
                )
        ray.shutdown()


if __name__ == "__main__":
    for part in sys.argv[1:] or ["images", "video", "memory"]:
        {"images": images, "video": video, "memory": memory}[part]()
