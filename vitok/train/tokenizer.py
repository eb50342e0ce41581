"""Stage 1 (section 2.3): the whole auto-encoder on L2 (or L1) + KL + LPIPS."""

from typing import Any

import torch
from torch import Tensor

from vitok import accounting, losses
from vitok.config import Recipe, Resources
from vitok.data.stream import Batch, Source
from vitok.metrics.evaluate import Evaluation, evaluate
from vitok.models.blocks import prepare
from vitok.models.bottleneck import Posterior
from vitok.models.perceptual import LPIPS
from vitok.models.tokenizer import Tokenizer
from vitok.train.engine import Engine, Place, autocast
from vitok.train.inputs import Inputs, draw, mean_terms
from vitok.train.latents import statistics
from vitok.train.loop import learning_rate
from vitok.train.saved import Saved


class Stage1:
    """What a step is. `start` are weights to begin from instead of fresh ones, `saved` a checkpoint to continue."""

    goal: tuple[str, bool] = ("rPSNR", True)

    def __init__(
        self, recipe: Recipe, resources: Resources, place: Place, source: Source, perceptual: LPIPS | None, metric: LPIPS,
        start: dict[str, Tensor] | None, saved: Saved | None,
    ) -> None:  # fmt: skip
        torch.manual_seed(recipe.seed)
        self.recipe, self.resources, self.place, self.source = recipe, resources, place, source
        self.perceptual, self.metric = perceptual, metric
        model = Tokenizer(recipe.tokenizer)
        if start:
            model.load_state_dict(start)
        if saved:
            load_weights(model, saved, "tokenizer")
        prepare(model, resources.recompute, resources.compile)
        self.engine = Engine("tokenizer", model, recipe.optimizer, recipe, resources, place, recipe.ema)
        if saved:
            self.engine.resume(saved)
        self.engines = [self.engine]
        self.flops = accounting.step_flops(recipe)
        self.posterior: Posterior | None = None

    def prepare(self, batch: Batch, position: int) -> Inputs:
        return draw(batch, position, self.recipe, self.place)

    def backward(self, inputs: Inputs, step: int) -> dict[str, Tensor]:
        count, each = self.resources.accumulation, list[dict[str, Tensor]]()
        for number in range(count):
            pixels, noise = inputs.micro(number, count, self.place.device)
            output = self.engine(pixels, noise)
            terms = losses.stage1(output, pixels, self.recipe.loss, self.perceptual)
            self.engine.backward(terms["loss"])
            if number + 1 < count:
                self.engine.micro_step()
            each.append(terms)
            self.posterior = output.posterior
        return mean_terms(each)

    def rates(self, step: int) -> list[float]:
        return [learning_rate(self.recipe.optimizer, self.recipe.batch_size, step, self.recipe.steps)]

    def watch(self) -> dict[str, float]:
        assert self.posterior is not None
        return statistics(self.posterior, self.place)

    def weights(self) -> dict[str, Tensor]:
        """What is evaluated and kept."""
        return self.engine.weights(averaged=True)

    def evaluate(self) -> Evaluation:
        return validate(self.weights(), self.source, self.recipe, self.metric, self.place)


def validate(weights: dict[str, Tensor], source: Source, recipe: Recipe, perceptual: LPIPS, place: Place) -> Evaluation:
    """Metrics on the held-out samples, from the posterior's mean, in a model of its own: no gather of ZeRO in it."""
    model = Tokenizer(recipe.tokenizer)
    model.load_state_dict(weights)
    model.to(place.device).eval()
    size = max(1, min(64, recipe.batch_size // place.world))

    def reconstruct(pixels: Tensor) -> Tensor:
        with autocast(place.device, recipe.precision):
            return model(pixels, sample=False).pixels

    return evaluate(reconstruct, source, size, perceptual, place.device, place.rank, place.world)


def load_weights(model: Any, saved: Saved, engine: str) -> None:
    """The trained weights of a checkpoint, before an engine cuts them."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for name, value in saved.whole(engine, "weight", {name: p.shape for name, p in trained.items()}).items():
            trained[name].copy_(value)
