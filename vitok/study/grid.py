"""Expansion of a scale into cells: every combination of its grids, each a complete recipe with an identity."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitok.config import Generation, Recipe, Training, check_resources, variants
from vitok.config.overrides import flatten, leaf_keys, override, require_key
from vitok.costs import flops
from vitok.errors import UsageError
from vitok.metrics.registry import find_metrics_of_kind, require_size
from vitok.study.labels import base_label, distinguish_labels
from vitok.study.scales import Arm, Scale


@dataclass(frozen=True)
class Cell:
    """A cell of a study: a recipe, its identity and its label."""

    recipe: Training
    digest: str  # hash of the recipe and the corpus
    label: str  # short name for people
    classes: int  # number of classes of the corpus

    @property
    def described(self) -> dict[str, Any]:
        """The cell's columns in plans, tables and MLflow; see `describe`."""
        return describe(self.recipe, self.classes)


def apply_overrides(scale: Scale, changes: dict[str, str]) -> Scale:
    """Return a scale with the changes of `--set` applied.

    A key belongs to the recipe ("steps", "loss.kl"), to the resources ("resources.zero") or to the grid ("grid.tokenizer.channels=4,16",
    values separated by commas). A key of a recipe changes every arm that has it, and the stage 1 that a stage 2 continues, unless that has
    a change of its own ("stage1.steps"). Raises `UsageError` for an unknown key, and for one that is an axis of the grid.
    """
    own = {key.removeprefix("resources."): value for key, value in changes.items() if key.startswith("resources.")}
    axes = {key.removeprefix("grid."): tuple(value.split(",")) for key, value in changes.items() if key.startswith("grid.")}
    recipe = {key: value for key, value in changes.items() if not key.startswith(("resources.", "grid."))}
    for key in recipe:
        if values := next((arm.grid[key] for arm in scale.arms if key in arm.grid), None):
            raise UsageError(f"{key} is an axis of the grid ({', '.join(map(str, values))}): set grid.{key}=... instead")
    _require_known([*recipe, *axes], scale)
    first = {key: value for key, value in own.items() if key != "metrics"}
    changed = replace(
        scale, arms=tuple(_override_arm(arm, recipe, axes, any(axes.keys() & one.grid.keys() for one in scale.arms)) for arm in scale.arms),
        resources=override(scale.resources, own), tokenizers=override(scale.tokenizers, first) if scale.tokenizers else None,
    )  # fmt: skip
    find_metrics_of_kind(changed.resources.metrics, "g" if isinstance(scale.base, Generation) else "r")
    return changed


def _require_known(names: list[str], scale: Scale) -> None:
    """Raise `UsageError` for a key that no arm's recipe has."""
    for name in names:
        if not any(_has_key(arm.base, name) for arm in scale.arms):
            require_key(scale.base, name)


def _has_key(base: Training, name: str) -> bool:
    """Return whether a name is a key of the recipe, or stands for several keys ("tokenizer.variant", "dit")."""
    stem, _, leaf = name.rpartition(".")
    known = leaf_keys(base)
    return name in known or (leaf == "variant" and f"{stem}.patch" in known) or (name == "dit" and isinstance(base, Generation))


def _override_arm(arm: Arm, recipe: dict[str, str], axes: dict[str, tuple[str, ...]], anywhere: bool) -> Arm:
    """Return an arm with the changes that its recipe has, and with new values for its axes. An axis that no arm has is added (`anywhere`:
    some arm has it).
    """
    found = {key: value for key, value in recipe.items() if _has_key(arm.base, key)}
    grid = dict(arm.grid)
    for name, values in axes.items():
        if name in grid or (not anywhere and _has_key(arm.base, name)):
            grid[name] = values
    return Arm(override(arm.base, _mirror_to_stage1(arm.base, _expand_names(found), "")), grid)


def cells(scale: Scale, seeds: Sequence[int], fingerprint: str, classes: int = 0) -> list[Cell]:
    """Return all cells of a scale, cheapest first. A cell's seed is also the seed of everything that it starts from.

    Raises `UsageError` that lists every impossible cell, and every cell that the grid has twice.
    """
    found: dict[str, Cell] = {}
    problems, twice = list[str](), list[str]()
    for arm, values in ((one, values) for one in scale.arms for values in itertools.product(*one.grid.values())):
        changes = dict(zip(arm.grid, values, strict=True))
        told = ", ".join(f"{key}={value}" for key, value in changes.items())
        for seed in seeds:
            try:
                settings = _mirror_to_stage1(arm.base, _expand_names(changes), ("tokenizer.", "data."))
                recipe = override(arm.base, settings | dict.fromkeys(_seed_keys(arm.base), seed))
                own = scale.of(recipe)
                check_resources(recipe, own)
                require_size(own.metrics, _side(recipe))
            except UsageError as error:
                problems.append(f"{told}: {error}")
                break
            cell = Cell(recipe, recipe.digest(fingerprint), recipe_label(recipe), classes)
            if cell.digest in found:
                twice.append(f"{told or 'an arm without a grid'} ({cell.label})")
                break
            found[cell.digest] = cell
    if problems:
        raise UsageError(f"{len(problems)} impossible cell(s): " + "; ".join(problems))
    if twice:
        raise UsageError(f"{len(twice)} cell(s) that the grid has already: " + "; ".join(twice))
    if scale.parents:
        found = {cell.digest: cell for level in dependency_levels(found.values(), fingerprint) for cell in level} | found
    return sorted(with_distinct_labels(found.values()), key=lambda cell: flops.training_flops(cell.recipe))


def _side(recipe: Training) -> int:
    """Return the side of the pictures that a run is measured on, pixels."""
    tokenizer = recipe.tokenizer if isinstance(recipe, Recipe) else recipe.tokenizer.tokenizer if isinstance(recipe, Generation) else None
    assert tokenizer
    return tokenizer.size


def _expand_names(changes: dict[str, Any]) -> dict[str, Any]:
    """Replace the names of variants and of DiTs by the keys that they stand for."""
    found: dict[str, Any] = {}
    for key, value in changes.items():
        stem, _, leaf = key.rpartition(".")
        if leaf == "variant":
            found |= {f"{stem}.{name}": setting for name, setting in variants.variant_settings(str(value)).items()}
        elif key == "dit":
            found |= {f"dit.{name}": setting for name, setting in variants.dit(str(value)).model_dump().items()}
        else:
            found[key] = value
    return found


def _mirror_to_stage1(base: Training, changes: dict[str, Any], which: str | tuple[str, ...]) -> dict[str, Any]:
    """Add the changes whose keys begin with `which` to the stage 1 that a stage 2 of this recipe, or of its tokenizer, continues.

    A change that names a key of stage 1 itself is kept.
    """
    known, again = set(leaf_keys(base)), dict[str, Any]()
    for prefix in ("", "tokenizer."):
        own = {key.removeprefix(prefix): value for key, value in changes.items() if key.startswith(prefix)}
        again |= {f"{prefix}stage1.{key}": value for key, value in own.items() if key.startswith(which)}
    return {key: value for key, value in again.items() if key in known} | changes


def _seed_keys(base: Training) -> list[str]:
    """Return the dotted keys of all seeds of a recipe."""
    return [key for key in leaf_keys(base) if key == "seed" or key.endswith(".seed")]


def dependency_levels(cells: Iterable[Cell], fingerprint: str) -> list[list[Cell]]:
    """Return cells and everything that they start from, each once, in lists: the parent of a cell is in an earlier list."""
    found: list[dict[str, Cell]] = []

    def depth(cell: Cell) -> int:
        """Put a cell and its ancestors into their levels; return the cell's level."""
        parent = parent_cell(cell, fingerprint)
        at = depth(parent) + 1 if parent else 0
        found.extend({} for _ in range(at + 1 - len(found)))
        found[at].setdefault(cell.digest, cell)
        return at

    for cell in cells:
        depth(cell)
    return [with_distinct_labels(level.values()) for level in found]


def parent_cell(cell: Cell, fingerprint: str) -> Cell | None:
    """Return the cell that a cell starts from; None if its recipe names none."""
    recipe = cell.recipe.parent
    return Cell(recipe, recipe.digest(fingerprint), recipe_label(recipe), cell.classes) if recipe else None


def with_distinct_labels(cells: Iterable[Cell]) -> list[Cell]:
    """Append to labels that several cells share the settings in which those cells differ."""
    known = list(cells)
    labels = distinguish_labels([cell.label for cell in known], [flatten(cell.recipe.model_dump(mode="json")) for cell in known])
    return [replace(cell, label=label) for cell, label in zip(known, labels, strict=True)]


def class_count(corpora: Any) -> int:
    """Return the number of classes of a corpus; for a mixture, the largest of its corpora's."""
    return max(len(corpus.classes) for _, corpus in corpora.parts)


def recipe_label(recipe: Training) -> str:
    """Return the label of a recipe, such as "S-B/16 c=16 seed=0"."""
    return base_label(describe(recipe), flatten(recipe.model_dump(mode="json")))


def describe(recipe: Training, classes: int = 0) -> dict[str, Any]:
    """Return the columns of a cell in plans, tables and MLflow: the paper's letters and the costs. A generator's costs are those of its
    DiT.
    """
    tokenizer = recipe.tokenizer if isinstance(recipe, Generation) else recipe
    assert isinstance(tokenizer, Recipe)
    cfg = tokenizer.tokenizer
    found: dict[str, Any] = {"variant": variants.variant_name(cfg)}
    own = flops.tokenizer_cost(cfg)
    price: flops.TokenizerCost | flops.GeneratorCost = own
    if isinstance(recipe, Generation):
        found |= {"dit": variants.dit_name(recipe.dit)}
        price = flops.generator_cost(recipe.dit, cfg.tokens, cfg.channels, classes if recipe.conditional else 0)
    found |= {
        "stage": tokenizer.stage, "p": cfg.patch, "q": cfg.stride, "c": cfg.channels, "L": cfg.tokens, "E": cfg.floats,
        "compression": round(cfg.compression, 3), "params_m": round(price.params / 1e6, 3), "gmacs": round(price.macs / 1e9, 6),
        "encoder_params_m": round(own.encoder_params / 1e6, 3), "decoder_params_m": round(own.decoder_params / 1e6, 3),
        "seed": recipe.seed,
    }  # fmt: skip
    return found | ({"cfg": recipe.sampling.cfg} if isinstance(recipe, Generation) else {})
