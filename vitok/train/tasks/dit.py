"""A generator's training (section 2.3): a DiT learns to tell the noise (or the velocity) of noised latents, by an L2 loss."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitok import diffusion
from vitok.config import Generation, Resources
from vitok.costs import flops
from vitok.data.latents.loader import LatentBatch, LatentSource
from vitok.evaluation.evaluation import Evaluation
from vitok.evaluation.generated import SampleEvaluation, draw_for_people, picture_sampling
from vitok.evaluation.generator import TrainedCorpus, drawing
from vitok.metrics.registry import find_metrics
from vitok.models.blocks import configure_blocks
from vitok.models.bottleneck import Posterior
from vitok.models.checksum import weights_digest
from vitok.models.dit import DiT
from vitok.models.tokenizer import Tokenizer
from vitok.storage.layout import RunFolder
from vitok.train.checkpoint.format import Saved
from vitok.train.engine.deepspeed import Engine
from vitok.train.ranks import Place
from vitok.train.schedule import constant_rate
from vitok.train.tasks.inputs import mean_terms
from vitok.train.tasks.tokenizer import load_weights

TOGETHER = 256  # samples that are drawn at once, at most


class DiTInputs(NamedTuple):
    """A batch of latents with all its randomness, one row a sample."""

    mean: Tensor  # (B, L, c) float16, of the posterior
    log_variance: Tensor
    labels: Tensor  # (B,) int64, hidden ones as the label of no class
    code: Tensor  # (B, L, c) noise of the posterior's sample
    noise: Tensor  # (B, L, c) of the diffusion
    uniform: Tensor  # (B,) in [0, 1), for the times

    def micro(self, number: int, of: int, device: torch.device) -> "DiTInputs":
        """Return one of `of` micro-batches, on the device."""
        size = len(self.mean) // of
        return DiTInputs(*(part[number * size : (number + 1) * size].to(device, non_blocking=True) for part in self))


class DiTTask:
    """A DiT under one engine. Samples are drawn from the averaged weights, and these are kept."""

    file = RunFolder.DIT

    def __init__(
        self, recipe: Generation, resources: Resources, place: Place, source: LatentSource, judge: SampleEvaluation,
        tokenizer: dict[str, Tensor], saved: Saved | None,
    ) -> None:  # fmt: skip
        torch.manual_seed(recipe.seed)
        self.recipe, self.resources, self.place, self.source, self.evaluation = recipe, resources, place, source, judge
        self.tokenizer, self.flops = tokenizer, flops.step_flops(recipe)
        first = find_metrics(resources.metrics)[0]
        self.goal = (first.name, first.higher)
        self.about = TrainedCorpus(
            source.uri, source.fingerprint, tuple(source.set.classes) if recipe.conditional else (),
            tuple(source.set.counts) if recipe.conditional else (),
        )  # fmt: skip
        self.objective = diffusion.build_objective(recipe.diffusion)
        model = self._model()
        self.normalised = {name: value.to(place.device) for name, value in model.named_buffers()}
        if saved:
            load_weights(model, saved, "dit")
        configure_blocks(model, resources.recompute, resources.compile)
        self.engine = Engine("dit", model, recipe.optimizer, recipe, resources, place, recipe.ema)
        self.engines = [self.engine]
        if saved:
            self.engine.resume(saved)

    def prepare(self, batch: LatentBatch, position: int) -> DiTInputs:
        """Draw noise, times and hidden labels for this rank's share of a batch."""
        recipe, place, cfg = self.recipe, self.place, self.recipe.tokenizer.tokenizer
        local = recipe.batch_size // place.world
        share = slice(place.rank * local, (place.rank + 1) * local)
        generator = torch.Generator().manual_seed((recipe.seed << 32) + position)
        whole = (recipe.batch_size, cfg.tokens, cfg.channels)
        code, noise = (torch.randn(whole, generator=generator)[share] for _ in range(2))
        uniform, hidden = (torch.rand(whole[0], generator=generator)[share] for _ in range(2))
        labels = torch.from_numpy(batch.labels.astype("int64"))
        labels = torch.where(hidden < recipe.diffusion.label_dropout, len(self.about.classes), labels)
        inputs = DiTInputs(torch.from_numpy(batch.mean), torch.from_numpy(batch.log_variance), labels, code, noise, uniform)
        return DiTInputs(*(part.pin_memory() for part in inputs)) if place.device.type == "cuda" else inputs

    def backward(self, inputs: DiTInputs, step: int) -> dict[str, Tensor]:
        """Run forward and backward of the noise prediction, or of the flow. Return "loss"."""
        count, each = self.resources.accumulation, list[dict[str, Tensor]]()
        for number in range(count):
            part = inputs.micro(number, count, self.place.device)
            latents = Posterior(part.mean.float(), part.log_variance.float()).sample(part.code)
            latents = (latents - self.normalised["mean"]) / self.normalised["std"]
            pair = self.objective.pair(latents, part.noise, part.uniform)
            loss = (self.engine(pair.noised, pair.times, part.labels).float() - pair.target).square().mean()
            self.engine.backward(loss)
            if number + 1 < count:
                self.engine.micro_step()
            each.append({"loss": loss})
        return mean_terms(each)

    def rates(self, step: int) -> list[float]:
        """Return the learning rate: warmed up, then constant."""
        return [constant_rate(self.recipe.optimizer, self.recipe.batch_size, step, self.recipe.steps)]

    def watch(self) -> dict[str, float]:
        """Return nothing more."""
        return {}

    def weights(self) -> dict[str, Tensor]:
        """Gather the averaged weights."""
        return self.engine.weights(averaged=True) | {name: value.cpu() for name, value in self.normalised.items()}

    def remark(self, weights: dict[str, Tensor]) -> str:
        """Return nothing to be said of the weights."""
        return ""

    def evaluate(self, weights: dict[str, Tensor], alive: Callable[[], None]) -> Evaluation:
        """Draw samples and measure them, in models of their own: no gather of ZeRO in it."""
        recipe, device = self.recipe, self.place.device
        model, decoder = self._model(), Tokenizer(recipe.tokenizer.tokenizer)
        model.load_state_dict(weights)
        decoder.load_state_dict(self.tokenizer)
        networks = (model.to(device).eval(), decoder.to(device).eval())
        batch = min(TOGETHER, recipe.batch_size)
        evaluation = self.evaluation(drawing(*networks, recipe, recipe.sampling, device), self.about, weights_digest(weights), batch, alive)
        return evaluation.pictured(draw_for_people(drawing(*networks, recipe, picture_sampling(recipe), device), self.about))

    def _model(self) -> DiT:
        cfg = self.recipe.tokenizer.tokenizer
        model = DiT(self.recipe.dit, cfg.channels, cfg.code, len(self.about.classes))
        model.mean.copy_(torch.tensor(self.source.set.mean))
        model.std.copy_(torch.tensor(self.source.set.std))
        return model

    def beside(self) -> dict[str, Any]:
        """Return what else sampling needs to know: the corpus's classes and their shares."""
        return {RunFolder.GENERATOR: asdict(self.about)}
