"""From a job to its result: in this process for one worker, in a Ray Train worker group for more."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vitok.config import Recipe, Resources
from vitok.data.sample import Rejection
from vitok.data.stream import Source
from vitok.errors import VitokError
from vitok.metrics.evaluate import Evaluation
from vitok.models.perceptual import LPIPS
from vitok.train.checkpoint import Checkpoints
from vitok.train.engine import Engine, Place
from vitok.train.loop import Sink, train
from vitok.train.tokenizer import Stage1, validate


@dataclass(frozen=True)
class Job:
    """One stage 1 run. `folder` must be reachable, under the same path, from every node that runs a worker."""

    recipe: Recipe
    resources: Resources
    source: Source
    weights: dict[str, dict[str, Tensor]]  # "alexnet", "vgg16" -> state of LPIPS
    folder: str
    sink: Sink


@dataclass(frozen=True)
class Outcome:
    evaluation: Evaluation
    rejected: frozenset[Rejection]
    steps: int  # done by this call
    seconds: dict[str, float]  # "start" (imports, model, engine), "train", "evaluate"


class _Silent:
    def log(self, step: int, values: dict[str, float]) -> None:
        pass

    def flush(self) -> None:
        pass


def run(job: Job) -> Outcome:
    """Train and evaluate; continue from the job's folder if it was begun before."""
    if job.resources.workers == 1:
        device = torch.device("cuda", 0) if job.resources.gpus_per_worker else torch.device("cpu")
        return work(job, Place(device=device))
    return _group(job)


def work(job: Job, place: Place) -> Outcome:
    """What each worker does."""
    began = time.perf_counter()
    recipe, resources = job.recipe, job.resources
    if place.device.type == "cpu":
        torch.set_num_threads(resources.cpus_per_worker)
    folder = Path(job.folder)
    task = Stage1(recipe, place, _lpips(job, recipe.loss.lpips_network, place) if recipe.loss.lpips else None)
    engine = Engine(task.model, recipe, resources, place)
    checkpoints = Checkpoints(folder / "checkpoints", place, resources.zero, resources.keep)
    sink = job.sink if place.rank == 0 else _Silent()
    ready = time.perf_counter()
    trained = train(task, engine, job.source, checkpoints, sink, recipe, resources, place)
    done = time.perf_counter()
    evaluation = validate(engine, job.source, recipe, _lpips(job, "alexnet", place), place)
    state = engine.state()
    if place.rank == 0:
        _export(folder, state, recipe, engine)
    seconds = {"start": ready - began, "train": trained.seconds, "evaluate": time.perf_counter() - done}
    return Outcome(evaluation, trained.rejected | evaluation.rejected, trained.steps, seconds)


def _group(job: Job) -> Outcome:
    from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
    from ray.train.torch import TorchConfig, TorchTrainer, get_device

    resources, refusal = job.resources, Path(job.folder) / "refusal.txt"
    refusal.unlink(missing_ok=True)

    def worker() -> Outcome | VitokError:
        # A group is started again whatever ended it: what would end it again is kept, and only passed on.
        if refusal.exists():
            return VitokError(refusal.read_text())
        context = get_context()
        try:
            return work(job, Place(context.get_world_rank(), context.get_world_size(), get_device()))
        except VitokError as error:
            refusal.write_text(str(error))
            raise

    trainer = TorchTrainer(
        worker,
        torch_config=TorchConfig(backend="nccl" if resources.gpus_per_worker else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=resources.workers, use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker={"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker},
        ),
        # Workers that die with their node are started again and continue from the last checkpoint.
        run_config=RunConfig(name="group", storage_path=job.folder, failure_config=FailureConfig(max_failures=3)),
    )  # fmt: skip
    outcome: Any = trainer.fit().return_value
    if isinstance(outcome, VitokError):
        raise outcome
    return outcome


def _lpips(job: Job, trunk: str, place: Place) -> LPIPS:
    model = LPIPS(trunk)
    model.load_state_dict(job.weights[trunk])
    return model.to(place.device).eval()


def _export(folder: Path, state: dict[str, Tensor], recipe: Recipe, engine: Engine) -> None:
    """tokenizer.safetensors, with the recipe beside it: what a finished cell leaves behind."""
    (folder / "recipe.json").write_text(recipe.model_dump_json(indent=2))
    (folder / "deepspeed.json").write_text(json.dumps(engine.config, indent=2))
    partial = folder / "tokenizer.safetensors.partial"
    save_file(state, partial)
    partial.replace(folder / "tokenizer.safetensors")
