"""From a job to its result: in this process for one worker, in a Ray Train worker group for more."""

import json
from pathlib import Path
from typing import Any

import torch

from vitok.config import check
from vitok.errors import VitokError
from vitok.storage import filesystem, mirror
from vitok.train.checkpoint.store import shelf
from vitok.train.engine.deepspeed import Place
from vitok.train.tasks.kinds import Job
from vitok.train.worker import Outcome, work

STUCK = 10  # starts of a worker group at one checkpoint; spot nodes may well go several times in a row


def run(job: Job, elsewhere: bool = False) -> Outcome:
    """Train and evaluate; continue from the job's folder if it was begun before. `elsewhere`: a lone worker too is one of Ray's, on
    whatever node has what it needs."""
    check(job.recipe, job.resources)
    if job.resources.workers > 1 or elsewhere:
        return _group(job)
    return work(job, Place(device=torch.device("cuda", 0) if job.resources.gpus_per_worker else torch.device("cpu")))


def _group(job: Job) -> Outcome:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
    from ray.train.torch import TorchConfig, TorchTrainer, get_device

    resources = job.resources
    for left in ("refusal.txt", "starts.json"):
        mirror.drop(mirror.here(job.folder) / left)

    def worker() -> Outcome | VitokError:
        context = get_context()
        device = get_device() if resources.gpus_per_worker else torch.device("cpu")
        return attempt(job, Place(context.get_world_rank(), context.get_world_size(), device))

    trainer = TorchTrainer(
        worker,
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
        ),
        # Workers that die with their node are started again, as often as they get on: see `_count_start`.
        run_config=RunConfig(name="group", **_records(mirror.here(job.folder)), failure_config=FailureConfig(max_failures=-1)),
    )  # fmt: skip
    outcome: Any = trainer.fit().return_value
    if isinstance(outcome, VitokError):
        raise outcome
    return outcome


def _records(folder: Path) -> dict[str, Any]:
    """Where Ray Train keeps its own."""
    uri = mirror.there(folder)
    if not uri:
        return {"storage_path": str(folder)}
    system, path = filesystem.filesystem(uri)
    return {"storage_path": path, "storage_filesystem": system}


def attempt(job: Job, place: Place) -> Outcome | VitokError:
    """What a worker of a group does. The group is started again whatever ended it: what would end it again is raised once, kept,
    and from then on only passed on."""
    folder = mirror.here(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    refusal = folder / "refusal.txt"
    if mirror.fetch(refusal).exists():
        return VitokError(refusal.read_text())
    try:
        if place.rank == 0:
            _count_start(folder)
        return work(job, place, group=True)
    except VitokError as error:
        refusal.write_text(str(error))
        mirror.keep(refusal)
        raise


def _count_start(folder: Path) -> None:
    """Raises `VitokError` when the group has ended too often without a new checkpoint."""
    path = mirror.fetch(folder / "starts.json")
    at = next((f"step {step}" for step in reversed(shelf(folder / "checkpoints", 0).steps())), "the start")
    starts = json.loads(path.read_text()) if path.exists() else {}
    starts = {at: starts.get(at, 0) + 1}
    path.write_text(json.dumps(starts))
    mirror.keep(path)
    if starts[at] > STUCK:
        raise VitokError(
            f"the workers were started {STUCK} times at {at} and ended each time before the next checkpoint: see Ray's logs of this run"
        )
