"""A scale of a study: the recipes that its cells start from, the grid of each, and what one of its runs has."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vitok.config import Recipe, Resources, Training
from vitok.config.overrides import override

if TYPE_CHECKING:
    pass


Grid = dict[str, tuple[Any, ...]]  # dotted key of a recipe -> its values


@dataclass(frozen=True)
class Arm:
    """Cells that start from one recipe: all combinations of an axis' values."""

    base: Training
    grid: Grid


@dataclass(frozen=True)
class Scale:
    """Where a study's cells start from and what one of its trials runs on."""

    arms: tuple[Arm, ...]
    resources: Resources
    tokenizers: Resources | None = None  # of a study of generators: what tokenizers run on
    parents: bool = False  # whether what its cells start from are cells of the study too
    baselines: tuple[str, ...] = ()  # codecs and autoencoders (see vitok/baselines) that are measured beside its cells

    @property
    def base(self) -> Training:
        return self.arms[0].base

    def of(self, recipe: Training) -> Resources:
        """What a run of this recipe has."""
        return self.tokenizers if self.tokenizers and isinstance(recipe, Recipe) else self.resources

    def set(self, changes: dict[str, Any]) -> "Scale":
        """With dotted keys of every arm's recipe changed. Raises `UsageError`."""
        return replace(self, arms=tuple(Arm(override(arm.base, changes), arm.grid) for arm in self.arms))

    def with_parents(self) -> "Scale":
        """What its cells start from (tokenizers, stage 1) are cells of the study too."""
        return replace(self, parents=True)

    def beside(self, *baselines: str) -> "Scale":
        return replace(self, baselines=baselines)

    def on(self, **resources: Any) -> "Scale":
        """With other resources for each run. Raises `UsageError`."""
        return replace(self, resources=override(self.resources, resources))

    def join(self, *others: "Scale") -> "Scale":
        """With the arms of others, which run on what this one does."""
        return replace(self, arms=(*self.arms, *(arm for other in others for arm in other.arms)))
