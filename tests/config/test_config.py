import pytest
from pydantic import ValidationError

from vitok.config import Recipe, Tower
from vitok.config.overrides import leaf_keys, override
from vitok.config.variants import tokenizer
from vitok.errors import UsageError

RECIPE = Recipe(tokenizer=tokenizer("S-B/16", channels=16))


def test_unknown_keys_and_changes_in_place_are_refused() -> None:
    with pytest.raises(ValidationError):
        Recipe(tokenizer=RECIPE.tokenizer, stepz=3)  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValidationError):
        RECIPE.steps = 3


def test_override_takes_dotted_keys_and_strings() -> None:
    changed = override(RECIPE, {"loss.kl": "1e-4", "tokenizer.channels": 8, "steps": "10"})
    assert (changed.loss.kl, changed.tokenizer.channels, changed.steps) == (1e-4, 8, 10)
    assert RECIPE.loss.kl == 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss.klx": 1}, ["'loss.klx'", "loss.kl"]),
        ({"kl": 1}, ["'kl'", "loss.kl"]),
        ({"loss": 1}, ["'loss'"]),
        ({"tokenizer.channels": 0}, ["channels", "0"]),
        ({"tokenizer.patch": 24}, ["256", "24"]),
        ({"steps": "many"}, ["steps", "many"]),
    ],
)
def test_a_bad_override_names_key_and_value(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UsageError) as error:
        override(RECIPE, changes)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_every_key_changes_the_identity() -> None:
    known = {RECIPE.digest("corpus"), RECIPE.digest("another corpus")}
    for key, value in {"seed": 1, "steps": 5, "loss.kl": 0.5, "tokenizer.channels": 8, "data.flip": False, "precision": "fp32"}.items():
        assert key in leaf_keys(RECIPE)
        known.add(override(RECIPE, {key: value}).digest("corpus"))
    assert len(known) == 8


def test_a_head_that_rope_cannot_split_is_refused() -> None:
    with pytest.raises(ValidationError, match="RoPE"):
        Tower(width=96, blocks=1, heads=3)
