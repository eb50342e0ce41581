"""What a step sees beside its samples: a function of (seed, position) alone, whatever cuts it."""

import numpy as np
import pytest
import torch

from tests.recipes import tiny
from vitok.config import Recipe
from vitok.data.loading.loader import Batch
from vitok.train.ranks import Place
from vitok.train.tasks.inputs import TokenizerInputs, draw_inputs

NESTED = {"tokenizer__latent_tokens": 12, "tokenizer__shortest": 2}  # lengths 2, 4, 8, 12


def drawn(recipe: Recipe, position: int = 0, rank: int = 0, world: int = 1) -> TokenizerInputs:
    images = np.zeros((recipe.batch_size // world, 32, 32, 3), np.uint8)
    return draw_inputs(Batch(images, frozenset()), position, recipe, Place(rank, world))


def test_every_length_is_kept_equally_often() -> None:
    """Within four deviations of a count, sqrt(n p (1 - p))."""
    recipe = tiny(batch_size=2048, **NESTED)
    lengths = recipe.tokenizer.lengths
    kept = torch.cat([drawn(recipe, position).kept for position in range(5)])
    assert lengths == (2, 4, 8, 12) and set(kept.tolist()) == set(lengths)
    for length in lengths:
        assert abs(int((kept == length).sum()) - len(kept) // 4) < 4 * (len(kept) * 3 / 16) ** 0.5
    assert len({tuple(drawn(recipe, position).kept.tolist()) for position in range(3)}) == 3


@pytest.mark.parametrize("world", [2, 4])
def test_any_number_of_ranks_draws_the_same(world: int) -> None:
    recipe = tiny(batch_size=16, **NESTED)
    whole, parts = drawn(recipe, 3), [drawn(recipe, 3, rank, world) for rank in range(world)]
    for name in ("mirrored", "noise", "kept"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    micro = [whole.micro(number, 4, torch.device("cpu"))[2] for number in range(4)]
    assert torch.equal(torch.cat([kept for kept in micro if kept is not None]), whole.kept)


def test_lengths_are_drawn_after_all_else() -> None:
    """So that what is not nested sees what it always saw."""
    plain, nested = drawn(tiny(tokenizer__latent_tokens=12)), drawn(tiny(**NESTED))
    assert torch.equal(plain.noise, nested.noise) and torch.equal(plain.mirrored, nested.mirrored)
    assert plain.micro(0, 1, torch.device("cpu"))[2] is None
