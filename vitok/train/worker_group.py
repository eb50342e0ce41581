"""A run by several workers: a Ray Train worker group, started again from the last checkpoint whatever ended it."""

import json
from pathlib import Path
from typing import Any

import torch

from vitok.config import check_resources
from vitok.errors import VitokError
from vitok.storage import filesystem, mirror
from vitok.storage.layout import RunFolder
from vitok.train import launch
from vitok.train.checkpoint.store import open_store
from vitok.train.launch import RunOutcome
from vitok.train.loop import Sink
from vitok.train.ranks import Place
from vitok.train.run_spec import RunInputs, RunSpec

STUCK = 10  # starts of a worker group at one checkpoint; spot nodes may well go several times in a row


def run(spec: RunSpec, inputs: RunInputs, sink: Sink) -> RunOutcome:
    """Train and evaluate in a group of workers, or by one worker on whatever node has what it needs; continue from the run's folder if it
    was begun before. Raises `VitokError`."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
    from ray.train.torch import TorchConfig, TorchTrainer, get_device

    resources, folder = spec.resources, spec.folder
    check_resources(spec.recipe, resources)
    for left in (folder.REFUSAL, folder.STARTS):
        folder.drop(left)

    def worker() -> RunOutcome | VitokError:
        context = get_context()
        device = get_device() if resources.gpus_per_worker else torch.device("cpu")
        return attempt(spec, inputs, sink, Place(context.get_world_rank(), context.get_world_size(), device))

    trainer = TorchTrainer(
        worker,
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
        ),
        # Workers that die with their node are started again, as often as they get on: see `_count_start`.
        run_config=RunConfig(name="group", **_records(folder.path), failure_config=FailureConfig(max_failures=-1)),
    )  # fmt: skip
    outcome: Any = trainer.fit().return_value
    if isinstance(outcome, VitokError):
        raise outcome
    return outcome


def _records(folder: Path) -> dict[str, Any]:
    """Return where Ray Train keeps its own records, as arguments of its RunConfig."""
    uri = mirror.store_address(folder)
    if not uri:
        return {"storage_path": str(folder)}
    system, path = filesystem.filesystem(uri)
    return {"storage_path": path, "storage_filesystem": system}


def attempt(spec: RunSpec, inputs: RunInputs, sink: Sink, place: Place) -> RunOutcome | VitokError:
    """Do a worker's part once. Ray Train starts the group again whatever ended it: so what would end it again is raised once, kept in the
    run's folder, and from then on returned."""
    folder = spec.folder
    if (refusal := folder.read(folder.REFUSAL)) is not None:
        return VitokError(refusal)
    try:
        if place.rank == 0:
            _count_start(folder)
        return launch.run(spec, inputs, sink, place, group=True)
    except VitokError as error:
        folder.write(folder.REFUSAL, str(error))
        raise


def _count_start(folder: RunFolder) -> None:
    """Count a start of the group. Raises `VitokError` when it has ended too often without a new checkpoint."""
    steps = open_store(folder.file(folder.CHECKPOINTS), 0).steps()
    at = f"step {steps[-1]}" if steps else "the start"
    starts = json.loads(folder.read(folder.STARTS) or "{}")
    count = starts.get(at, 0) + 1
    folder.write(folder.STARTS, json.dumps({at: count}))
    if count > STUCK:
        raise VitokError(
            f"the workers were started {STUCK} times at {at} and ended each time before the next checkpoint: see Ray's logs of this run"
        )
