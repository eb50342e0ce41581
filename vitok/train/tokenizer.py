"""What the two stages of a tokenizer's training have in common."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitok import accounting
from vitok.config import Recipe, Resources
from vitok.data.stream import Batch, Source
from vitok.metrics.evaluate import Evaluation, Judge
from vitok.metrics.prefix import Prefix
from vitok.models.bottleneck import Posterior
from vitok.models.perceptual import LPIPS
from vitok.models.tokenizer import Tokenizer
from vitok.train.engine import Engine, Place, autocast
from vitok.train.inputs import Inputs, draw
from vitok.train.latents import statistics
from vitok.train.saved import Saved


class TokenizerTask(ABC):
    """A stage says what its engines are, what a step is, and what weights come of it."""

    file = "tokenizer.safetensors"  # that a finished run leaves

    def __init__(
        self, recipe: Recipe, resources: Resources, place: Place, source: Source, perceptual: LPIPS | None, judge: Judge,
        start: dict[str, Tensor] | None, saved: Saved | None,
    ) -> None:  # fmt: skip
        """`start` are weights to begin from instead of fresh ones, `saved` a checkpoint to continue."""
        torch.manual_seed(recipe.seed)
        self.recipe, self.resources, self.place, self.source = recipe, resources, place, source
        self.perceptual, self.evaluation = perceptual, judge
        self.goal = recipe.goal
        self.flops = accounting.step_flops(recipe)
        self.posterior: Posterior | None = None  # of the last micro-batch
        self.engines = self.build(start, saved)
        if saved:
            for engine in self.engines:
                engine.resume(saved)

    @abstractmethod
    def build(self, start: dict[str, Tensor] | None, saved: Saved | None) -> list[Engine]: ...

    @abstractmethod
    def weights(self) -> dict[str, Tensor]: ...

    def beside(self) -> dict[str, Any]:
        """More files that a finished run leaves, by name, as JSON."""
        return {}

    def remark(self, weights: dict[str, Tensor]) -> str:
        """What is to be said of the trained weights; empty: nothing."""
        return ""

    def prepare(self, batch: Batch, position: int) -> Inputs:
        return draw(batch, position, self.recipe, self.place)

    def watch(self) -> dict[str, float]:
        assert self.posterior is not None
        return statistics(self.posterior, self.place)

    def evaluate(self, weights: dict[str, Tensor], alive: Callable[[], None]) -> Evaluation:
        """From the posterior's mean, in a model of its own: no gather of ZeRO in it. Of a nested code at every length that training
        draws."""
        cfg = self.recipe.tokenizer
        model = Tokenizer(cfg)
        model.load_state_dict(weights)
        model.to(self.place.device).eval()
        size = max(1, min(64, self.recipe.batch_size // self.place.world))

        def reconstruct(pixels: Tensor, prefix: Prefix | None) -> Tensor:
            alive()
            with autocast(self.place.device, self.recipe.precision):
                return model(pixels, sample=False, kept=prefix and prefix.of_each(pixels)).pixels

        shorter = [Prefix(length, cfg.tokens) for length in cfg.lengths[:-1]]
        whole = self.evaluation(partial(reconstruct, prefix=None), size)
        return whole.beside(self.evaluation(partial(reconstruct, prefix=prefix), size, prefix) for prefix in shorter)


def load_weights(model: Any, saved: Saved, engine: str) -> None:
    """The trained weights of a checkpoint, before an engine cuts them."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for name, value in saved.whole(engine, "weight", {name: p.shape for name, p in trained.items()}).items():
            trained[name].copy_(value)
