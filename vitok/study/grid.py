"""From a scale to its cells: every combination of the grid, each a whole recipe with an identity."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitok import accounting, variants
from vitok.config import Generation, Recipe, Training, check
from vitok.errors import UsageError
from vitok.metrics.names import of_letter
from vitok.overrides import flat, override, require
from vitok.study.study import Scale


@dataclass(frozen=True)
class Cell:
    recipe: Training
    digest: str  # of the recipe and the corpus
    label: str  # for people
    classes: int  # of the corpus

    @property
    def described(self) -> dict[str, Any]:
        return describe(self.recipe, self.classes)


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
    own = {key: value for key, value in resources.items() if key != "metrics"}
    first = override(scale.tokenizers, own) if scale.tokenizers else None
    changed = Scale(override(scale.base, recipe), override(scale.resources, resources), grid, first)
    of_letter(changed.resources.metrics, "g" if isinstance(scale.base, Generation) else "r")
    return changed


def cells(scale: Scale, seeds: Sequence[int], fingerprint: str, classes: int = 0) -> list[Cell]:
    """All cells, cheapest first. A seed is the generator's and its tokenizer's. Raises `UsageError` that lists every impossible one."""
    found: dict[str, Cell] = {}
    problems: list[str] = []
    for values in itertools.product(*scale.grid.values()):
        changes = dict(zip(scale.grid, values, strict=True))
        for seed in seeds:
            try:
                recipe = override(scale.base, {**changes, **dict.fromkeys(_seeds(scale.base), seed)})
                check(recipe, scale.resources)
            except UsageError as error:
                problems.append(f"{', '.join(f'{key}={value}' for key, value in changes.items())}: {error}")
                break
            cell = Cell(recipe, recipe.digest(fingerprint), label(recipe), classes)
            found[cell.digest] = cell
    if problems:
        raise UsageError(f"{len(problems)} impossible cell(s): " + "; ".join(problems))
    return sorted(told_apart(found.values()), key=lambda cell: accounting.training_flops(cell.recipe))


def tokenizers(cells: Sequence[Cell], fingerprint: str) -> list[Cell]:
    """The tokenizers that these cells' generators are trained on, each once."""
    recipes = {cell.recipe.tokenizer.digest(fingerprint): cell.recipe.tokenizer for cell in cells if isinstance(cell.recipe, Generation)}
    found = [Cell(recipe, digest, label(recipe), 0) for digest, recipe in recipes.items()]
    return sorted(told_apart(found), key=lambda cell: accounting.training_flops(cell.recipe))


def told_apart(cells: Iterable[Cell]) -> list[Cell]:
    """Cells of one label get what they differ in behind it."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.label, []).append(cell)
    found: list[Cell] = []
    for label, group in groups.items():
        settings = [flat(cell.recipe.model_dump(mode="json")) for cell in group]
        known = dict.fromkeys(key for one in settings for key in one)
        differing = [key for key in known if len({str(one.get(key)) for one in settings}) > 1]
        for cell, own in zip(group, settings, strict=True):
            found.append(replace(cell, label=" ".join([label, *(f"{key.rpartition('.')[2]}={own.get(key)}" for key in differing)])))
    return found


def _seeds(base: Training) -> tuple[str, ...]:
    return ("seed", "tokenizer.seed") if isinstance(base, Generation) else ("seed",)


def classes(corpora: Any) -> int:
    """Of the corpus, or of that of a mixture that has the most."""
    return max(len(corpus.classes) for _, corpus in corpora.parts)


def label(recipe: Training) -> str:
    if isinstance(recipe, Generation):
        of = label(recipe.tokenizer)
        seeds = "" if recipe.seed == recipe.tokenizer.seed else f" (DiT seed={recipe.seed})"
        return f"{variants.dit_name(recipe.dit)} on {of}{seeds}"
    assert isinstance(recipe, Recipe)
    return f"{variants.name(recipe.tokenizer)} c={recipe.tokenizer.channels} seed={recipe.seed}"


def describe(recipe: Training, classes: int = 0) -> dict[str, Any]:
    """The columns of a cell in plans, tables and MLflow: the paper's letters and the costs, of a generator those of its DiT."""
    tokenizer = recipe.tokenizer if isinstance(recipe, Generation) else recipe
    assert isinstance(tokenizer, Recipe)
    cfg = tokenizer.tokenizer
    found: dict[str, Any] = {"variant": variants.name(cfg)}
    price: accounting.Cost | accounting.GeneratorCost = accounting.cost(cfg)
    if isinstance(recipe, Generation):
        found |= {"dit": variants.dit_name(recipe.dit)}
        price = accounting.generator_cost(recipe.dit, cfg.tokens, cfg.channels, classes if recipe.conditional else 0)
    found |= {
        "p": cfg.patch, "q": cfg.stride, "c": cfg.channels, "L": cfg.tokens, "E": cfg.floats, "compression": round(cfg.compression, 3),
        "params_m": round(price.params / 1e6, 3), "gmacs": round(price.macs / 1e9, 6), "seed": recipe.seed,
    }  # fmt: skip
    return found | ({"cfg": recipe.sampling.cfg} if isinstance(recipe, Generation) else {})
