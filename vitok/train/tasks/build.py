"""From the description of a run to its task: a tokenizer's first or second stage, or a generator."""

from collections.abc import Callable

from safetensors.torch import load_file
from torch import Tensor

from vitok.config import Generation, Recipe
from vitok.data.latents.dataset import LatentSet
from vitok.data.latents.loader import LatentSource
from vitok.data.loading.loader import Source
from vitok.errors import VitokError
from vitok.evaluation.evaluation import HeldOutEvaluation
from vitok.evaluation.generated import SampleEvaluation
from vitok.evaluation.statistics import Reference, Statistics
from vitok.metrics.registry import find_metrics
from vitok.models.checksum import weights_digest
from vitok.models.lpips import LPIPS
from vitok.networks.weights import build_network
from vitok.storage.layout import RunFolder
from vitok.train.checkpoint.format import Saved
from vitok.train.ranks import Place
from vitok.train.run_spec import RunInputs, RunSpec
from vitok.train.tasks.dit import DiTTask
from vitok.train.tasks.stage2 import Stage2
from vitok.train.tasks.tokenizer import Stage1

AnyTask = Stage1 | Stage2 | DiTTask


def task_builder(spec: RunSpec, inputs: RunInputs, place: Place) -> Callable[[Saved | None], AnyTask]:
    """Return a function that builds the task of a run, from its beginning (None) or from a checkpoint, as often as it is called. The
    networks of losses and metrics are loaded once."""
    recipe, source = spec.recipe, inputs.source(spec)
    statistics, metrics = Statistics(spec.storage.statistics), find_metrics(spec.resources.metrics)
    start = start_weights(spec.folder, recipe.start) if recipe.start else None
    if isinstance(recipe, Generation):
        assert isinstance(source, LatentSource) and start is not None
        generated = SampleEvaluation(
            metrics, inputs.networks, recipe, reference_of(source.set), source.set.views, statistics, place.device, spec.folder.path,
            place.rank, place.world,
        )  # fmt: skip
        return lambda saved: DiTTask(recipe, spec.resources, place, source, generated, start, saved)
    assert isinstance(recipe, Recipe) and isinstance(source, Source)
    judge = HeldOutEvaluation(metrics, inputs.networks, source, statistics, place.device, place.rank, place.world)
    perceptual = _perceptual(inputs, f"lpips-{recipe.loss.lpips_network}").to(place.device) if recipe.loss.lpips else None
    arguments = (recipe, spec.resources, place, source, perceptual, judge)
    if recipe.gan:
        assert start is not None
        return lambda saved: Stage2(*arguments, start, saved)
    return lambda saved: Stage1(*arguments, start, saved)


def reference_of(latents: LatentSet) -> Reference:
    """Return the reference of a generator's samples: the views of the training split that it learns from."""
    return Reference.of_corpus(latents.uri, latents.fingerprint, "train", latents.about, latents.size, latents.frames)


def start_weights(folder: RunFolder, wanted: str) -> dict[str, Tensor]:
    """Load the weights that a run begins from. Raises `VitokError` if they are not those that its recipe names by their SHA-256."""
    path = folder.fetch(folder.START)
    if not path.is_file():
        raise VitokError(f"{path} is missing: the weights that this run starts from")
    state = load_file(path)
    if (found := weights_digest(state)) != wanted:
        raise VitokError(f"{path} holds other weights (SHA-256 {found}) than the recipe starts from ({wanted})")
    return state


def _perceptual(inputs: RunInputs, network: str) -> LPIPS:
    model = build_network(network, inputs.networks[network])
    assert isinstance(model, LPIPS)
    return model
