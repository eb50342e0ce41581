"""Samples of a generator, drawn by Ray Data actors and shown as a picture or kept file by file.

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
from vitok.console.progress import Progress
from vitok.data.loading import blocks as tasks
from vitok.errors import UsageError, VitokError
from vitok.evaluation import pictures
from vitok.evaluation.generator import About, Generator
from vitok.metrics.psnr_ssim import to_uint8
from vitok.models.checksum import digest
from vitok.storage import locks

FEWEST = 4  # samples of a block, if so many are drawn at once: for fewer the seconds in which an actor starts are not worth it
SPARE = 1.1  # of the bytes that samples need, what must be free


@dataclass(frozen=True)
class Asked:
    generator: Generator  # its recipe says how samples are drawn
    labels: np.ndarray  # of sample 0, 1, ...
    out: Path  # a picture, or a folder for a file each
    batch: int
    actors: int
    gpus: int
    storage: Path

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample: ([T,] H, W, 3)."""
        cfg = self.generator.recipe.tokenizer.tokenizer
        return (cfg.size, cfg.size, 3) if cfg.frames == 1 else (cfg.frames, cfg.size, cfg.size, 3)

    @property
    def video(self) -> bool:
        return len(self.shape) == 4

    @property
    def single(self) -> bool:
        """Whether a picture shows them all; else a folder gets a file each."""
        return bool(self.out.suffix)

    @property
    def columns(self) -> int:
        """Of a picture: the samples of a class stand in a row, where they are few enough."""
        each = int((self.labels == self.labels[0]).sum())
        return each if 1 < each <= 16 and len(self.labels) % each == 0 else int(np.ceil(np.sqrt(len(self.labels))))

    @property
    def about(self) -> dict[str, Any]:
        """Whose samples these are, and how they are drawn."""
        recipe = self.generator.recipe
        sampling = recipe.sampling.model_dump(exclude={"count"}) | {"objective": recipe.diffusion.objective, "seed": recipe.seed}
        return {"generator": digest(self.generator.state), "tokenizer": recipe.start, **sampling, "labels": self.labels.tolist()}

    @property
    def work(self) -> Path:
        """Where samples wait for their picture."""
        return self.storage / "samples" / hashlib.sha256(json.dumps(self.about).encode()).hexdigest()[:16]


def classes(names: tuple[str, ...], about: About, count: int) -> np.ndarray:
    """The label of each of `count` samples: of these classes (numbers or names) in turn, as many of each as there is room for. None
    named: up to eight, evenly spread. Raises `UsageError` for one that there is not."""
    known = len(about.classes)
    if not known:
        if names:
            raise UsageError(f"--classes {' '.join(names)}: this generator is unconditional")
        return np.zeros(count, np.int64)
    chosen = [_class(name, about) for name in names]
    chosen = chosen or np.unique(np.linspace(0, known - 1, min(known, 8, count)).round().astype(int)).tolist()
    return np.array(chosen)[np.arange(count) * len(chosen) // count]


def _class(name: str, about: About) -> int:
    if name in about.classes:
        return about.classes.index(name)
    known = len(about.classes)
    if not name.isdecimal() or int(name) >= known:
        few = ", ".join(about.classes[:5]) + (", ..." if known > 5 else "")
        raise UsageError(f"--classes {name}: there are {known} classes, 0 to {known - 1} ({few})")
    return int(name)


def run(asked: Asked, say: Progress) -> dict[str, Any]:
    """Draw what is not there yet, and show it. Needs a connected Ray. Raises `VitokError`."""
    if asked.single:
        pictures.check_ending(asked.out, asked.video)
    folder = asked.work if asked.single else asked.out
    with locks.alone(folder, "sampling"):
        _claim(asked, folder)
        missing = [number for number in range(len(asked.labels)) if not _file(asked, folder, number).is_file()]
        if len(missing) < len(asked.labels):
            say.line(f"{len(asked.labels) - len(missing)} of {len(asked.labels)} samples are there")
        done = len(asked.labels) - len(missing)
        with say.counting("samples") as progress:
            for block in _drawn(asked, np.array(missing, np.int64)):
                for number, sample in block:
                    _write(asked, _file(asked, folder, number), sample)
                done += len(block)
                progress(done, len(asked.labels), done - len(asked.labels) + len(missing))
        if done < len(asked.labels):
            raise VitokError(f"only {done} of {len(asked.labels)} samples came back: see Ray's logs; run again to continue")
        if asked.single:
            samples = np.stack([np.load(_file(asked, folder, number)) for number in range(len(asked.labels))])
            content = pictures.picture(
                torch.from_numpy(samples).movedim(-1, 1), asked.columns, asked.generator.recipe.latents.fps, asked.out.suffix.lower()
            )
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            _put(asked.out, content)
    if asked.single:
        shutil.rmtree(folder, ignore_errors=True)
    sampling = asked.generator.recipe.sampling
    known = asked.generator.about.classes
    named = [known[label] for label in dict.fromkeys(asked.labels.tolist())] if known else []
    return {
        "name": asked.generator.name, "samples": len(asked.labels), "classes": named, "cfg": sampling.cfg, "steps": sampling.steps,
        "out": str(asked.out),
    }  # fmt: skip


def _claim(asked: Asked, folder: Path) -> None:
    """Raises `UsageError` for a folder that holds something else: samples of two kinds must never mix."""
    told = folder / "samples.json"
    if told.is_file():
        theirs, ours = json.loads(told.read_text()), asked.about
        if differing := [key for key in ours if theirs.get(key) != ours[key]]:
            raise UsageError(f"--out {folder} holds other samples ({', '.join(differing)} differ): give another folder")
    elif found := [path.name for path in folder.iterdir() if path.name != ".lock"]:
        raise UsageError(f"--out {folder} is not empty ({found[0]}): give a new folder")
    else:
        _put(told, json.dumps(asked.about).encode())


def need_room(generator: Generator, count: int, out: Path, storage: Path) -> None:
    """Raises `VitokError` where so many samples would not fit."""
    cfg, folder = generator.recipe.tokenizer.tokenizer, storage if out.suffix else out.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    need, free = int(SPARE * count * 3 * cfg.frames * cfg.size**2), shutil.disk_usage(there).free
    if need > free:
        raise VitokError(f"{count} samples take up to {need / 1e9:.3g} GB, and {there} has {free / 1e9:.3g} GB free: draw fewer (--count)")


def _file(asked: Asked, folder: Path, number: int) -> Path:
    if asked.single:
        return folder / f"{number:08d}.npy"
    return folder / f"{number:08d}-class-{int(asked.labels[number]):04d}{'.mp4' if asked.video else '.png'}"


def _write(asked: Asked, path: Path, sample: np.ndarray) -> None:
    if asked.single:
        partial = path.with_suffix(".partial.npy")
        np.save(partial, sample)
        partial.replace(path)
    elif asked.video:
        clip = torch.from_numpy(sample.copy()).movedim(-1, 0)[None]
        _put(path, pictures.moving(clip, 1, asked.generator.recipe.latents.fps, ".mp4", enlarged=False))
    else:
        partial = path.with_name(path.name + ".partial")
        Image.fromarray(sample).save(partial, "PNG")
        partial.replace(path)


def _put(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


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


def _drawn(asked: Asked, numbers: np.ndarray) -> Iterator[list[tuple[int, np.ndarray]]]:
    """(number, sample ([T,] H, W, 3) uint8), in blocks as they come."""
    if not len(numbers):
        return
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # who reads shows progress, and errors once
    each = min(asked.batch, max(FEWEST, -(-len(numbers) // asked.actors)))
    count, labels = -(-len(numbers) // each), asked.labels

    def make(block: int) -> tasks.Columns:
        own = numbers[block * each : (block + 1) * each]
        return {"number": own, "label": labels[own]}

    blocks = tasks.dataset(make, count, cpus=0.01)
    blocks.context.op_resource_reservation_enabled = True
    found: Any = blocks.map_batches(
        _Drawer, fn_constructor_args=(ray.put(asked.generator), asked.gpus), batch_size=None, batch_format="numpy",
        compute=ActorPoolStrategy(size=min(asked.actors, count)), num_gpus=asked.gpus or None, num_cpus=1 if asked.gpus else 0.9,
    ).iter_batches(batch_size=None, prefetch_batches=1, batch_format="numpy")  # fmt: skip
    for block in found:
        if "error" in block:
            raise VitokError(str(block["error"][0]))
        yield list(zip(block["number"].tolist(), block["image"], strict=True))
