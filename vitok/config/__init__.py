"""Configuration: frozen, validated settings, each with its unit and the source of its default.

A `Recipe` (of a tokenizer) or a `Generation` (of a DiT on a tokenizer's latents) holds everything that decides the result of a run, and
nothing else: its hash, with the corpus's fingerprint, is the identity of a cell. `Resources` holds what decides the speed alone.
"""

from vitok.config.generation import Diffusion, Generation, Latents, Sampling, parse_recipe
from vitok.config.resources import Resources, check_resources, is_recomputed
from vitok.config.tokenizer import FrozenConfig, TokenizerConfig, Tower
from vitok.config.training import Data, Gan, Loss, Optimizer, Recipe, Training

__all__ = [
    "Data",
    "Diffusion",
    "FrozenConfig",
    "Gan",
    "Generation",
    "Latents",
    "Loss",
    "Optimizer",
    "Recipe",
    "Resources",
    "Sampling",
    "TokenizerConfig",
    "Tower",
    "Training",
    "check_resources",
    "is_recomputed",
    "parse_recipe",
]  # fmt: skip
