"""From a job to what is trained: a tokenizer's first or second stage, or a generator."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from vitok.config import Generation, Recipe, Resources, Training
from vitok.data.latents.dataset import LatentSet
from vitok.data.latents.loader import LatentSource
from vitok.data.loading.loader import Source
from vitok.errors import VitokError
from vitok.evaluation.evaluation import Judge
from vitok.evaluation.generated import GeneratedJudge
from vitok.evaluation.statistics import Reference, Statistics
from vitok.metrics.registry import named
from vitok.models.checksum import digest
from vitok.models.lpips import LPIPS
from vitok.networks.sources import Payload
from vitok.networks.weights import build
from vitok.storage import mirror
from vitok.train.checkpoint.format import Saved
from vitok.train.engine.deepspeed import Place
from vitok.train.loop import Sink
from vitok.train.tasks.dit import DiTTask
from vitok.train.tasks.stage2 import Stage2
from vitok.train.tasks.tokenizer import Stage1

Kind = Stage1 | Stage2 | DiTTask


@dataclass(frozen=True)
class Job:
    """One run. `folder` is a path that every node which runs a worker has, or the address of one in a store (`mirror.told`). Where the
    recipe says what weights it starts from, they are there as start.safetensors."""

    recipe: Training
    resources: Resources
    source: Source | LatentSource
    weights: dict[str, Payload]  # of each network that the loss and the metrics look through
    folder: str
    statistics: str  # folder of those of reference sets, shared by all runs
    sink: Sink
    identity: str = ""  # of the storage; empty: whether this node sees the same is not asked


def maker(job: Job, place: Place) -> Callable[[Saved | None], Kind]:
    """Gives the task, from its beginning or from a checkpoint, as often as it is asked to. The networks that look at results are loaded
    once."""
    folder, statistics, metrics = mirror.here(job.folder), Statistics(mirror.here(job.statistics)), named(job.resources.metrics)
    recipe, source = job.recipe, job.source
    start = start_weights(folder, recipe.start) if recipe.start else None
    if isinstance(recipe, Generation):
        assert isinstance(source, LatentSource) and start is not None
        reference = reference_of(source.set)
        looking = GeneratedJudge(
            metrics, job.weights, recipe, reference, source.set.views, statistics, place.device, folder, place.rank, place.world
        )
        return lambda saved: DiTTask(recipe, job.resources, place, source, looking, start, saved)
    assert isinstance(recipe, Recipe) and isinstance(source, Source)
    judge = Judge(metrics, job.weights, source, statistics, place.device, place.rank, place.world)
    perceptual = _perceptual(job, f"lpips-{recipe.loss.lpips_network}").to(place.device) if recipe.loss.lpips else None
    arguments = (recipe, job.resources, place, source, perceptual, judge)
    if recipe.gan:
        assert start is not None
        return lambda saved: Stage2(*arguments, start, saved)
    return lambda saved: Stage1(*arguments, start, saved)


def reference_of(latents: LatentSet) -> Reference:
    """What a generator's samples are compared with: the views of the training split that it learns from."""
    return Reference.of_corpus(latents.uri, latents.fingerprint, "train", latents.about, latents.size, latents.frames)


def start_weights(folder: Path, wanted: str) -> dict[str, Tensor]:
    """Weights that a run begins from. Raises `VitokError` if they are not those that its recipe names."""
    path = mirror.fetch(folder / "start.safetensors")
    if not path.is_file():
        raise VitokError(f"{path} is missing: the weights that this run starts from")
    state = load_file(path)
    if (found := digest(state)) != wanted:
        raise VitokError(f"{path} holds other weights (SHA-256 {found}) than the recipe starts from ({wanted})")
    return state


def _perceptual(job: Job, network: str) -> LPIPS:
    model = build(network, job.weights[network])
    assert isinstance(model, LPIPS)
    return model
