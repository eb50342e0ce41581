"""A trained generator: a DiT, the tokenizer that it was trained for, and what both need to draw samples.

Sample i is a function of (seed, i) and its class alone: its noise is drawn for it alone, whatever batch, worker or guidance
it comes with, so that a sweep over guidance shows the same samples changing.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitok import diffusion
from vitok.config import Generation, Sampling
from vitok.errors import UsageError
from vitok.models.checksum import weights_digest
from vitok.models.dit import DiT
from vitok.models.tokenizer import Tokenizer
from vitok.storage.layout import RunFolder

GOLDEN = 0.6180339887498949  # its multiples fill [0, 1) evenly, however many there are

# Numbers of samples (B,) and their labels (B,) -> pixels (B, 3, [T,] H, W), float32, nominally in [-1, 1].
Draw = Callable[[np.ndarray, np.ndarray], Tensor]


@dataclass(frozen=True)
class TrainedCorpus:
    """The corpus that a generator was trained on, as it is kept beside the weights."""

    corpus: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]  # latents of each class

    def labels(self, numbers: np.ndarray) -> np.ndarray:
        """Return the class of each sample of a measured set: any run of numbers has the classes in the corpus's own shares."""
        if not self.counts:
            return np.zeros(len(numbers), np.int64)
        ends = np.cumsum(self.counts) / sum(self.counts)
        return np.searchsorted(ends, (numbers + 0.5) * GOLDEN % 1, side="right").clip(max=len(ends) - 1)


@dataclass(frozen=True)
class Generator:
    """A trained generator with its tokenizer."""

    name: str
    recipe: Generation
    about: TrainedCorpus
    state: dict[str, Tensor]  # of the DiT
    tokenizer: dict[str, Tensor]

    @classmethod
    def read(cls, name: str, recipe: Generation, folder: Path) -> "Generator":
        """Read a generator from a finished run's folder. Raises `UsageError` for files that are missing or damaged, or of another
        tokenizer."""
        try:
            about = json.loads((folder / RunFolder.GENERATOR).read_text())
            state, tokenizer = load_file(folder / RunFolder.DIT), load_file(folder / RunFolder.START)
            known = TrainedCorpus(about["corpus"], about["fingerprint"], tuple(about["classes"]), tuple(about["counts"]))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{folder} is no finished generator: {error}") from None
        if (found := weights_digest(tokenizer)) != recipe.start:
            raise UsageError(f"{folder / RunFolder.START} holds another tokenizer (SHA-256 {found}) than the generator's ({recipe.start})")
        return cls(name, recipe, known, state, tokenizer)

    def with_recipe(self, recipe: Generation) -> "Generator":
        """Return the same networks, sampled in another way."""
        return replace(self, recipe=recipe)

    def open(self, device: torch.device) -> Draw:
        """Open the networks on a device; return the function that draws samples."""
        cfg = self.recipe.tokenizer.tokenizer
        model = DiT(self.recipe.dit, cfg.channels, cfg.code, len(self.about.classes) if self.recipe.conditional else 0)
        model.load_state_dict(self.state)
        decoder = Tokenizer(cfg)
        decoder.load_state_dict(self.tokenizer)
        return drawing(model.to(device).eval(), decoder.to(device).eval(), self.recipe, self.recipe.sampling, device)


def drawing(model: DiT, decoder: Tokenizer, recipe: Generation, sampling: Sampling, device: torch.device) -> Draw:
    """Draws from these networks."""
    path = diffusion.build_objective(recipe.diffusion, sampling.spacing).path(sampling.steps, device)
    guided = diffusion.with_guidance(model, model.classes, sampling.cfg)

    def draw(numbers: np.ndarray, labels: np.ndarray) -> Tensor:
        noise = torch.from_numpy(np.stack([noise_of(recipe, int(number)) for number in numbers])).to(device)
        classes = torch.from_numpy(labels.astype(np.int64)).to(device)
        # Not inference_mode: the rotations that RoPE keeps would be of no use to a training in this process.
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            for latents in diffusion.sample_steps(guided, path, noise, classes):
                noise = latents
            pixels = decoder.decode(model.restored(noise))
        return (pixels.squeeze(2) if recipe.tokenizer.tokenizer.frames == 1 else pixels).float()

    return draw


def noise_of(recipe: Generation, number: int) -> np.ndarray:
    """The normal noise (L, c) that sample `number` begins with, float32."""
    cfg = recipe.tokenizer.tokenizer
    return np.random.default_rng([recipe.seed, number]).standard_normal((cfg.tokens, cfg.channels), np.float32)
