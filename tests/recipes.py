"""Recipes that train in seconds, runs of them, and sessions on a few CPUs."""

from pathlib import Path
from typing import Any, NamedTuple

from vitok.config import Generation, Recipe, Resources, Training, variants
from vitok.config.overrides import override
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.session import Session
from vitok.study import presets
from vitok.train.run_spec import RunInputs, RunSpec

RESOURCES = Resources(checkpoint_every=4, log_every=2, tflops=0.08, utilisation=0.5)


def tiny(**changes: Any) -> Recipe:
    """The laptop's recipe, cut to 8 steps of 8 samples and without LPIPS; `__` in a name stands for a dot."""
    small = {"steps": 8, "batch_size": 8, "loss.lpips": 0.0, "data.pool": 64, "data.validation_crops": 2}
    return override(presets.laptop({}).base, small | {key.replace("__", "."): value for key, value in changes.items()})


def tiny_generation(**changes: Any) -> Generation:
    """A DiT of two blocks on the latents of `tiny`, 8 steps of 8 samples, 24 samples of 4 steps."""
    small = {"steps": 8, "batch_size": 8, "ema": 0.9, "latents.crops": 4, "sampling.count": 24, "sampling.steps": 4}
    recipe = presets.laptop_generation({}).base
    assert isinstance(recipe, Generation)
    base = recipe.model_copy(update={"tokenizer": tiny(), "dit": variants.DITS["N"]})
    return override(base, small | {key.replace("__", "."): value for key, value in changes.items()})


class Job(NamedTuple):
    """The arguments of `launch.run`."""

    spec: RunSpec
    inputs: RunInputs
    sink: Any


def make_job(
    recipe: Training, resources: Resources, source: Any, networks: Any, folder: Path, sink: Any, storage: Path | None = None
) -> Job:
    """A run in a folder; the statistics of reference sets lie in `storage`, or beside it."""
    return Job(RunSpec(recipe, resources, str(folder), str(storage or folder)), RunInputs({"": source}, networks), sink)


def session(storage: Path, cpus: float = 1.0) -> Session:
    """A session on a cluster of so many CPUs, to which this process is connected already."""
    found = Session(storage)
    found.__dict__["capacity"] = Capacity({"CPU": cpus})
    return found
