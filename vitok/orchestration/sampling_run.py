"""Samples of a generator by themselves: drawn by Ray Data actors, shown as a picture or kept file by file.

What is drawn is kept as it comes, by the number of the sample: the same command goes on where it was stopped.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from PIL import Image
from ray.data import ActorPoolStrategy

from vitok import runtime
from vitok.data.loading import blocks as tasks
from vitok.errors import UsageError, VitokError
from vitok.evaluation import pictures
from vitok.evaluation.generator import Generator, TrainedCorpus
from vitok.metrics.psnr_ssim import to_uint8
from vitok.models.checksum import weights_digest
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.session import Session
from vitok.storage import atomic, locks

FEWEST = 4  # samples of a block, if so many are drawn at once: for fewer the seconds in which an actor starts are not worth it
SPARE = 1.1  # of the bytes that samples need, what must be free


@dataclass(frozen=True)
class SamplingRequest:
    """Samples to be drawn of a generator, and where to."""

    generator: Generator  # its recipe says how samples are drawn
    labels: np.ndarray  # of sample 0, 1, ...
    out: Path  # a picture, or a folder for a file each
    batch: int | None = None  # samples that an actor draws at once; None: 64 on a GPU, else 16
    actors: int = 0  # 0: as many as there is room for

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: ([T,] H, W, 3)."""
        cfg = self.generator.recipe.tokenizer.tokenizer
        return (cfg.size, cfg.size, 3) if cfg.frames == 1 else (cfg.frames, cfg.size, cfg.size, 3)

    @property
    def video(self) -> bool:
        """Whether samples are clips."""
        return len(self.shape) == 4

    @property
    def single(self) -> bool:
        """Whether a picture shows them all; else a folder gets a file each."""
        return bool(self.out.suffix)

    @property
    def columns(self) -> int:
        """Samples in a row of the picture: those of one class, where they are few enough."""
        each = int((self.labels == self.labels[0]).sum())
        return each if 1 < each <= 16 and len(self.labels) % each == 0 else int(np.ceil(np.sqrt(len(self.labels))))

    @property
    def about(self) -> dict[str, Any]:
        """The generator, and how its samples are drawn: two folders with the same hold the same samples."""
        recipe = self.generator.recipe
        sampling = recipe.sampling.model_dump(exclude={"count"}) | {"objective": recipe.diffusion.objective, "seed": recipe.seed}
        return {"generator": weights_digest(self.generator.state), "tokenizer": recipe.start, **sampling, "labels": self.labels.tolist()}

    @property
    def digest(self) -> str:
        """The identity of samples whose picture is not drawn yet."""
        return hashlib.sha256(json.dumps(self.about).encode()).hexdigest()[:16]


def classes(names: tuple[str, ...], about: TrainedCorpus, count: int) -> np.ndarray:
    """Return the label of each of `count` samples (N,): of these classes (numbers or names) in turn, as many of each as there is room for;
    without names of up to eight classes, evenly spread. Raises `UsageError` for a class that there is not."""
    known = len(about.classes)
    if not known:
        if names:
            raise UsageError(f"--classes {' '.join(names)}: this generator is unconditional")
        return np.zeros(count, np.int64)
    chosen = [_class(name, about) for name in names]
    chosen = chosen or np.unique(np.linspace(0, known - 1, min(known, 8, count)).round().astype(int)).tolist()
    return np.array(chosen)[np.arange(count) * len(chosen) // count]


def _class(name: str, about: TrainedCorpus) -> int:
    if name in about.classes:
        return about.classes.index(name)
    known = len(about.classes)
    if not name.isdecimal() or int(name) >= known:
        few = ", ".join(about.classes[:5]) + (", ..." if known > 5 else "")
        raise UsageError(f"--classes {name}: there are {known} classes, 0 to {known - 1} ({few})")
    return int(name)


def run(request: SamplingRequest, session: Session) -> dict[str, Any]:
    """Draw what is not there yet, and show it. Raises `VitokError`."""
    capacity = session.capacity
    if request.actors > capacity.processes:
        device = "GPU" if capacity.gpus_each else "CPU"
        raise UsageError(f"--actors {request.actors}: there is room for {capacity.processes}, one on each {device}")
    if request.single:
        pictures.check_ending(request.out, request.video)
    folder = session.storage.samples(request.digest) if request.single else request.out
    with locks.exclusive(folder, "sampling"):
        _claim(request, folder)
        missing = [number for number in range(len(request.labels)) if not _file(request, folder, number).is_file()]
        if len(missing) < len(request.labels):
            session.say(f"{len(request.labels) - len(missing)} of {len(request.labels)} samples are there")
        done = len(request.labels) - len(missing)
        with session.console.counting("samples") as progress:
            for block in _drawn(request, np.array(missing, np.int64), capacity):
                for number, sample in block:
                    _write(request, _file(request, folder, number), sample)
                done += len(block)
                progress(done, len(request.labels), done - len(request.labels) + len(missing))
        if done < len(request.labels):
            raise VitokError(f"only {done} of {len(request.labels)} samples came back: see Ray's logs; run again to continue")
        if request.single:
            samples = np.stack([np.load(_file(request, folder, number)) for number in range(len(request.labels))])
            content = pictures.picture(
                torch.from_numpy(samples).movedim(-1, 1), request.columns, request.generator.recipe.latents.fps, request.out.suffix.lower()
            )
            atomic.write(request.out, content)
    if request.single:
        shutil.rmtree(folder, ignore_errors=True)
    sampling = request.generator.recipe.sampling
    known = request.generator.about.classes
    named = [known[label] for label in dict.fromkeys(request.labels.tolist())] if known else []
    return {
        "name": request.generator.name, "samples": len(request.labels), "classes": named, "cfg": sampling.cfg, "steps": sampling.steps,
        "out": str(request.out),
    }  # fmt: skip


def _claim(request: SamplingRequest, folder: Path) -> None:
    """Raise `UsageError` for a folder that holds something else: samples of two kinds must never mix."""
    told = folder / "samples.json"
    if told.is_file():
        theirs, ours = json.loads(told.read_text()), request.about
        if differing := [key for key in ours if theirs.get(key) != ours[key]]:
            raise UsageError(f"--out {folder} holds other samples ({', '.join(differing)} differ): give another folder")
    elif found := [path.name for path in folder.iterdir() if path.name not in (locks.LOCK, locks.HOLDER)]:
        raise UsageError(f"--out {folder} is not empty ({found[0]}): give a new folder")
    else:
        atomic.write(told, json.dumps(request.about))


def need_room(generator: Generator, count: int, out: Path, storage: Path) -> None:
    """Raise `VitokError` where so many samples would not fit on the disk."""
    cfg, folder = generator.recipe.tokenizer.tokenizer, storage if out.suffix else out.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    need, free = int(SPARE * count * 3 * cfg.frames * cfg.size**2), shutil.disk_usage(there).free
    if need > free:
        raise VitokError(f"{count} samples take up to {need / 1e9:.3g} GB, and {there} has {free / 1e9:.3g} GB free: draw fewer (--count)")


def _file(request: SamplingRequest, folder: Path, number: int) -> Path:
    if request.single:
        return folder / f"{number:08d}.npy"
    return folder / f"{number:08d}-class-{int(request.labels[number]):04d}{'.mp4' if request.video else '.png'}"


def _write(request: SamplingRequest, path: Path, sample: np.ndarray) -> None:
    if request.single:
        atomic.write(path, lambda file: np.save(file, sample))
    elif request.video:
        clip = torch.from_numpy(sample.copy()).movedim(-1, 0)[None]
        atomic.write(path, pictures.moving(clip, 1, request.generator.recipe.latents.fps, ".mp4", enlarged=False))
    else:
        atomic.write(path, lambda file: Image.fromarray(sample).save(file, "PNG"))


class _Drawer:
    """The actor: the generator and its tokenizer, on one device."""

    def __init__(self, reference: Any, gpus: int) -> None:
        device, self.problem = runtime.device(gpus, 1), ""
        try:
            generator: Any = ray.get(reference)
            self.draw = generator.open(device)
        except VitokError as error:
            self.problem = str(error)

    def __call__(self, block: tasks.Columns) -> tasks.Columns:
        if self.problem:  # an exception of a task comes back wrapped and logged twice
            return {"error": np.array([self.problem], dtype=object)}
        pixels = to_uint8(self.draw(block["number"], block["label"]))
        return {"number": block["number"], "image": pixels.movedim(1, -1).cpu().numpy()}


def _drawn(request: SamplingRequest, numbers: np.ndarray, capacity: Capacity) -> Iterator[list[tuple[int, np.ndarray]]]:
    """Yield blocks of (number, sample ([T,] H, W, 3) uint8) as they come."""
    if not len(numbers):
        return
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    actors, gpus = request.actors or capacity.processes, capacity.gpus_each
    each = min(request.batch or (64 if gpus else 16), max(FEWEST, -(-len(numbers) // actors)))
    count, labels = -(-len(numbers) // each), request.labels

    def make(block: int) -> tasks.Columns:
        own = numbers[block * each : (block + 1) * each]
        return {"number": own, "label": labels[own]}

    blocks = tasks.dataset(make, count, cpus=0.01)
    blocks.context.op_resource_reservation_enabled = True
    found: Any = blocks.map_batches(
        _Drawer, fn_constructor_args=(ray.put(request.generator), gpus), batch_size=None, batch_format="numpy",
        compute=ActorPoolStrategy(size=min(actors, count)), num_gpus=gpus or None, num_cpus=1 if gpus else 0.9,
    ).iter_batches(batch_size=None, prefetch_batches=1, batch_format="numpy")  # fmt: skip
    for block in found:
        if "error" in block:
            raise VitokError(str(block["error"][0]))
        yield list(zip(block["number"].tolist(), block["image"], strict=True))
