"""From a scale to its cells: every combination of the grid, each a whole recipe with an identity."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitok import accounting, variants
from vitok.config import Recipe, check
from vitok.errors import UsageError
from vitok.metrics.names import named
from vitok.overrides import override, require
from vitok.study.study import Scale


@dataclass(frozen=True)
class Cell:
    recipe: Recipe
    digest: str  # of the recipe and the corpus
    label: str  # for people


def apply(scale: Scale, changes: dict[str, str]) -> Scale:
    """A scale with `--set` applied: keys of the recipe ("steps", "loss.kl"), of the resources ("resources.zero") or of
    the grid ("grid.tokenizer.channels=4,16", a comma between values). Raises `UsageError` for an unknown one."""
    recipe: dict[str, Any] = {}
    resources: dict[str, Any] = {}
    grid = dict(scale.grid)
    for key, value in changes.items():
        if key.startswith("resources."):
            resources[key.removeprefix("resources.")] = value
        elif key.startswith("grid."):
            name = key.removeprefix("grid.")
            require(scale.base, name)
            grid[name] = tuple(value.split(","))
        elif key in grid:
            raise UsageError(f"{key} is an axis of the grid ({', '.join(map(str, grid[key]))}): set grid.{key}=... instead")
        else:
            recipe[key] = value
    changed = Scale(override(scale.base, recipe), override(scale.resources, resources), grid)
    named(changed.resources.metrics)
    return changed


def cells(scale: Scale, seeds: Sequence[int], fingerprint: str) -> list[Cell]:
    """All cells, cheapest first. Raises `UsageError` that lists every impossible one."""
    found: dict[str, Cell] = {}
    problems: list[str] = []
    for values in itertools.product(*scale.grid.values()):
        changes = dict(zip(scale.grid, values, strict=True))
        for seed in seeds:
            try:
                recipe = override(scale.base, {**changes, "seed": seed})
                check(recipe, scale.resources)
            except UsageError as error:
                problems.append(f"{', '.join(f'{key}={value}' for key, value in changes.items())}: {error}")
                break
            cell = Cell(recipe, recipe.digest(fingerprint), label(recipe))
            found[cell.digest] = cell
    if problems:
        raise UsageError(f"{len(problems)} impossible cell(s): " + "; ".join(problems))
    return sorted(found.values(), key=lambda cell: accounting.training_flops(cell.recipe))


def label(recipe: Recipe) -> str:
    return f"{variants.name(recipe.tokenizer)} c={recipe.tokenizer.channels} seed={recipe.seed}"


def describe(recipe: Recipe) -> dict[str, Any]:
    """The columns of a cell in plans, tables and MLflow: the paper's letters and the costs."""
    cfg = recipe.tokenizer
    price = accounting.cost(cfg)
    return {
        "variant": variants.name(cfg), "p": cfg.patch, "q": cfg.stride, "c": cfg.channels, "L": cfg.tokens, "E": cfg.floats,
        "compression": round(cfg.compression, 3), "params_m": round(price.params / 1e6, 3),
        "gmacs": round(price.macs / 1e9, 6), "seed": recipe.seed,
    }  # fmt: skip
