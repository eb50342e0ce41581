"""Stage 1 (section 2.3): the whole auto-encoder on L2 (or L1) + KL + LPIPS."""

import torch
from torch import Tensor

from vitok import losses
from vitok.config import Recipe
from vitok.data.stream import Batch, Source
from vitok.metrics.evaluate import Evaluation, evaluate
from vitok.models.perceptual import LPIPS
from vitok.models.tokenizer import Tokenizer
from vitok.train.engine import Engine, Place


class Stage1:
    """What a step is. All its randomness is a function of (seed, step), cut for this rank: a resumed run, or one with
    another number of workers, draws the same."""

    def __init__(self, recipe: Recipe, place: Place, perceptual: LPIPS | None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.place, self.perceptual = recipe, place, perceptual
        self.model = Tokenizer(recipe.tokenizer)
        local = recipe.batch_size // place.world
        self.share = slice(place.rank * local, (place.rank + 1) * local)

    def terms(self, engine: Engine, batch: Batch, step: int) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed((self.recipe.seed << 32) + step)
        size, latent = self.recipe.batch_size, self.recipe.tokenizer
        mirrored = torch.rand(size, generator=draw)[self.share] < (0.5 if self.recipe.data.flip else 0.0)
        noise = torch.randn(size, latent.tokens, latent.channels, generator=draw)[self.share].to(self.place.device)
        images = torch.from_numpy(batch.images).to(self.place.device, non_blocking=True)
        mirrored = mirrored.to(images.device).view(-1, *[1] * (images.ndim - 1))
        images = torch.where(mirrored, images.flip(-2), images)
        pixels = losses.to_pixels(images)
        return losses.stage1(engine(pixels, noise), pixels, self.recipe.loss, self.perceptual)


def validate(engine: Engine, source: Source, recipe: Recipe, perceptual: LPIPS, place: Place) -> Evaluation:
    """Metrics on the held-out samples, from the posterior's mean."""
    engine.train(False)
    size = max(1, min(64, recipe.batch_size // place.world))
    return evaluate(lambda pixels: engine(pixels, sample=False).pixels, source, size, perceptual, place.device, place.rank, place.world)
