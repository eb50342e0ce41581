"""Studies of several arms: variants, second stages, generators with their tokenizers."""

import pytest

from vitok.config import Generation, Recipe
from vitok.errors import UsageError
from vitok.study import grid, presets
from vitok.study.scales import Scale

NAME, PAIR = "tokenizer.variant", "tokenizer.tokenizer.variant"
BOTH = presets.laptop({"loss.lpips": (0.0, 0.5)}).join(presets.second_stage(presets.laptop(), "laptop", {"gan.lr": (0.01, 0.02)}))


def cells(scale: Scale, *seeds: int) -> list[grid.Cell]:
    return grid.cells(scale, seeds or (0,), "corpus")


def recipes(scale: Scale) -> list[Recipe]:
    return [cell.recipe for cell in cells(scale) if isinstance(cell.recipe, Recipe)]


def test_a_variants_name_is_an_axis() -> None:
    found = cells(presets.laptop({NAME: ("T-M/8", "W-T/4")}))
    assert [(cell.described["variant"], cell.described["p"]) for cell in found] == [("T-M/8", 8), ("W-T/4", 4)]
    assert [
        cell.described["variant"] for cell in cells(grid.apply_overrides(presets.laptop({}), {"grid.tokenizer.variant": "T-T/8,M-M/8"}))
    ] == [
        "T-T/8",
        "M-M/8",
    ]
    with pytest.raises(UsageError, match=r"'T-Q/8'.*ENCODER-DECODER"):
        cells(presets.laptop({NAME: ("T-Q/8",)}))
    generators = cells(presets.laptop_generation({PAIR: ("T-M/8",), "dit": ("DiT-N", "DiT-T")}))
    assert [cell.label for cell in generators] == ["DiT-N on T-M/8 c=16 seed=0", "DiT-T on T-M/8 c=16 seed=0"]


def test_a_second_stage_knows_its_first_by_its_recipe() -> None:
    labels = [cell.label for cell in cells(BOTH)]
    assert sorted(labels) == [
        "T-M/8 c=16 seed=0 lpips=0.0", "T-M/8 c=16 seed=0 lpips=0.5", "T-M/8 c=16 seed=0 stage 2 lr=0.01",
        "T-M/8 c=16 seed=0 stage 2 lr=0.02",
    ]  # fmt: skip
    first, second = grid.dependency_levels(cells(BOTH), "corpus")
    parents = {grid.parent_cell(cell, "corpus") for cell in second}
    assert len(first) == 3 and {cell.digest for cell in parents if cell} == {presets.laptop().base.digest("corpus")} < {
        c.digest for c in first
    }
    assert len(cells(BOTH.with_parents())) == 5


def test_a_second_stage_follows_what_its_first_is_changed_in() -> None:
    for recipe in recipes(grid.apply_overrides(BOTH, {"steps": "7", "optimizer.beta2": "0.9"})):
        assert recipe.steps == 7 and recipe.optimizer.beta2 == 0.9
        assert recipe.stage1 is None or (recipe.stage1.steps, recipe.stage1.optimizer.beta2) == (7, 0.9)
    named = recipes(grid.apply_overrides(BOTH, {"steps": "7", "stage1.steps": "9"}))
    assert {recipe.stage1.steps for recipe in named if recipe.stage1} == {9}
    wide = recipes(presets.second_stage(presets.laptop(), "laptop", {NAME: ("T-W/8",)}))[0]
    assert wide.stage1 and wide.stage1.tokenizer == wide.tokenizer and wide.tokenizer.decoder.width == 192
    assert wide.stage1.seed == wide.seed and cells(presets.second_stage(presets.laptop(), "laptop"), 3)[0].recipe.parent.seed == 3  # pyright: ignore


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (presets.laptop({"tokenizer.channels": (4, 4, 8)}), r"1 cell\(s\) that the grid has already: tokenizer.channels=4 \(T-M/8 c=4"),
        (presets.laptop({"tokenizer.channels": (16,)}, {}), r"1 cell\(s\) that the grid has already: an arm without a grid"),
        (presets.laptop({"tokenizer.patch": (8, 5, 7)}), r"2 impossible cell\(s\): tokenizer.patch=5: .*; tokenizer.patch=7"),
    ],
)
def test_a_bad_grid_lists_its_cells(scale: Scale, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        cells(scale)


def test_changes_reach_the_arms_that_have_them() -> None:
    scale = grid.apply_overrides(BOTH, {"gan.weight": "0.5", "grid.loss.lpips": "0.1", "grid.gan.lr": "0.03"})
    assert {(recipe.loss.lpips, recipe.gan and (recipe.gan.weight, recipe.gan.lr)) for recipe in recipes(scale)} == {
        (0.1, None), (0.5, (0.5, 0.03)),
    }  # fmt: skip
    with pytest.raises(UsageError, match=r"'gan.weigth'"):
        grid.apply_overrides(BOTH, {"gan.weigth": "0.5"})


def test_generators_and_their_tokenizers_are_cells_together() -> None:
    scale = presets.laptop_generation({PAIR: ("T-T/8", "T-M/8")}).with_parents()
    found = cells(scale, 0, 1)
    kinds = [isinstance(cell.recipe, Generation) for cell in found]
    assert (len(found), sum(kinds)) == (8, 4)
    assert [scale.of(cell.recipe).metrics[0][0] for cell in found] == ["g" if kind else "r" for kind in kinds]
    levels = grid.dependency_levels([cell for cell in found if isinstance(cell.recipe, Generation)], "corpus")
    assert [len(level) for level in levels] == [4, 4]


def test_stage_1_of_another_tokenizer_is_refused() -> None:
    recipe = presets.stage2_recipe(presets.laptop().base, "laptop")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="another tokenizer"):
        Recipe.model_validate(recipe.model_dump() | {"tokenizer": recipe.tokenizer.model_dump() | {"channels": 8}})
    with pytest.raises(ValueError, match="stage 2 alone"):
        Recipe.model_validate(recipe.model_dump() | {"gan": None})
