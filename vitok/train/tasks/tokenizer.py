"""Training of a tokenizer: what both stages have in common, and stage 1 (section 2.3), the whole auto-encoder on L2 (or L1) + KL +
LPIPS."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vitok import losses
from vitok.config import Recipe, Resources
from vitok.costs import flops
from vitok.data.loading.loader import Batch, Source
from vitok.evaluation.evaluation import Evaluation, HeldOutEvaluation
from vitok.metrics.nested_prefix import Prefix
from vitok.models.blocks import configure_blocks
from vitok.models.bottleneck import Posterior
from vitok.models.lpips import LPIPS
from vitok.models.tokenizer import Tokenizer
from vitok.storage.layout import RunFolder
from vitok.train.checkpoint.format import Saved
from vitok.train.engine.deepspeed import Engine, autocast
from vitok.train.ranks import Place
from vitok.train.schedule import cosine_rate
from vitok.train.tasks.inputs import TokenizerInputs, draw_inputs, mean_terms

pass


class TokenizerTask(ABC):
    """A stage of a tokenizer's training. A subclass says what its engines are, what a step is, and what weights come of it."""

    file = RunFolder.TOKENIZER  # that a finished run leaves

    def __init__(
        self, recipe: Recipe, resources: Resources, place: Place, source: Source, perceptual: LPIPS | None, judge: HeldOutEvaluation,
        start: dict[str, Tensor] | None, saved: Saved | None,
    ) -> None:  # fmt: skip
        """Build the stage: from the weights `start`, from fresh ones, or from the checkpoint `saved`."""
        torch.manual_seed(recipe.seed)
        self.recipe, self.resources, self.place, self.source = recipe, resources, place, source
        self.perceptual, self.evaluation = perceptual, judge
        self.goal = recipe.goal
        self.flops = flops.step_flops(recipe)
        self.posterior: Posterior | None = None  # of the last micro-batch
        self.engines = self.build(start, saved)
        if saved:
            for engine in self.engines:
                engine.resume(saved)

    @abstractmethod
    def build(self, start: dict[str, Tensor] | None, saved: Saved | None) -> list[Engine]:
        """Build the models; return their engines."""
        ...

    @abstractmethod
    def weights(self) -> dict[str, Tensor]:
        """Gather the tokenizer's weights. A collective."""
        ...

    def beside(self) -> dict[str, Any]:
        """Return more files that a finished run leaves, by name, as JSON."""
        return {}

    def remark(self, weights: dict[str, Tensor]) -> str:
        """Return what is to be said of the trained weights; empty: nothing."""
        return ""

    def prepare(self, batch: Batch, position: int) -> TokenizerInputs:
        """Draw the inputs of this rank's share of a batch."""
        return draw_inputs(batch, position, self.recipe, self.place)

    def watch(self) -> dict[str, float]:
        """Return statistics of the last micro-batch's latents. A collective."""
        assert self.posterior is not None
        return latent_statistics(self.posterior, self.place)

    def evaluate(self, weights: dict[str, Tensor], alive: Callable[[], None]) -> Evaluation:
        """Evaluate reconstructions from the posterior's mean, in a model of its own: no gather of ZeRO in it. A nested code is evaluated
        at every length that training draws."""
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
    """Load the trained weights of a checkpoint into a model, before an engine cuts them."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    with torch.no_grad():
        for name, value in saved.whole(engine, "weight", {name: p.shape for name, p in trained.items()}).items():
            trained[name].copy_(value)


ACTIVE = 0.01  # variance of the posterior's mean over the data, above which a channel carries something (Burda et al. 2016)


@torch.no_grad()
def latent_statistics(posterior: Posterior, place: Place) -> dict[str, float]:
    """Return statistics of a batch's latents over all samples and tokens, of all ranks (a collective): mean and deviation of the sampled
    latents, the KL divergence of each channel (nats), and the number of channels that carry something."""
    mean, variance = posterior.mean.flatten(0, 1), posterior.log_variance.flatten(0, 1).exp()
    sums: Tensor = torch.stack([mean.mean(0), mean.square().mean(0), variance.mean(0), posterior.kl().flatten(0, 1).mean(0)])
    if place.world > 1:
        dist.all_reduce(sums)
        sums /= place.world
    center, square, noise, kl = sums.cpu()
    active = (square - center.square() > ACTIVE).sum()
    whole = center.mean()
    values = {
        "latent/mean": float(whole), "latent/std": float((square + noise).mean().sub(whole.square()).clamp_min(0).sqrt()),
        "latent/active_channels": float(active),
    }  # fmt: skip
    return values | {f"latent_kl/{channel:03d}": float(value) for channel, value in enumerate(kl)}


class Stage1(TokenizerTask):
    """Stage 1: the whole auto-encoder under one engine."""

    def build(self, start: dict[str, Tensor] | None, saved: Saved | None) -> list[Engine]:
        """Build the tokenizer; return its engine."""
        model = Tokenizer(self.recipe.tokenizer)
        if start:
            model.load_state_dict(start)
        if saved:
            load_weights(model, saved, "tokenizer")
        configure_blocks(model, self.resources.recompute, self.resources.compile)
        self.engine = Engine("tokenizer", model, self.recipe.optimizer, self.recipe, self.resources, self.place, self.recipe.ema)
        return [self.engine]

    def backward(self, inputs: TokenizerInputs, step: int) -> dict[str, Tensor]:
        """Run forward and backward of reconstruction, KL and LPIPS. Return the terms."""
        count, each = self.resources.accumulation, list[dict[str, Tensor]]()
        for number in range(count):
            pixels, noise, kept = inputs.micro(number, count, self.place.device)
            output = self.engine(pixels, noise, kept=kept)
            terms = losses.stage1_loss(output, pixels, self.recipe.loss, self.perceptual)
            self.engine.backward(terms["loss"])
            if number + 1 < count:
                self.engine.micro_step()
            each.append(terms)
            self.posterior = output.posterior
        return mean_terms(each)

    def rates(self, step: int) -> list[float]:
        """Return the learning rate: warmup, then cosine."""
        return [cosine_rate(self.recipe.optimizer, self.recipe.batch_size, step, self.recipe.steps)]

    def weights(self) -> dict[str, Tensor]:
        """Gather the weights, averaged where the recipe has an EMA."""
        return self.engine.weights(averaged=True)
