"""A scale of a study: the recipes that its cells start from, the grid of each recipe, and the resources of a run."""

from dataclasses import dataclass, replace
from typing import Any

from vitok.config import Recipe, Resources, Training
from vitok.config.overrides import override

AxisGrid = dict[str, tuple[Any, ...]]  # dotted key of a recipe -> the values of this axis


@dataclass(frozen=True)
class Arm:
    """Cells that start from one recipe: all combinations of the values of its grid."""

    base: Training
    grid: AxisGrid


@dataclass(frozen=True)
class Scale:
    """The recipes, grids and resources of a study at one size of hardware, such as a laptop or a cluster."""

    arms: tuple[Arm, ...]
    resources: Resources
    tokenizers: Resources | None = None  # resources of tokenizers' runs in a study of generators
    parents: bool = False  # the cells that its cells start from belong to the study too
    baselines: tuple[str, ...] = ()  # codecs and autoencoders (see vitok/evaluation/baselines) that are measured too

    @property
    def base(self) -> Training:
        """The recipe of the first arm."""
        return self.arms[0].base

    def of(self, recipe: Training) -> Resources:
        """Return the resources of a run of this recipe."""
        return self.tokenizers if self.tokenizers and isinstance(recipe, Recipe) else self.resources

    def set(self, changes: dict[str, Any]) -> "Scale":
        """Return a scale with dotted keys of every arm's recipe changed. Raises `UsageError` for an unknown key or an impossible value."""
        return replace(self, arms=tuple(Arm(override(arm.base, changes), arm.grid) for arm in self.arms))

    def with_parents(self) -> "Scale":
        """Return a scale whose study also has the cells that its cells start from (tokenizers, stage 1)."""
        return replace(self, parents=True)

    def beside(self, *baselines: str) -> "Scale":
        """Return a scale whose study also measures these baselines."""
        return replace(self, baselines=baselines)

    def on(self, **resources: Any) -> "Scale":
        """Return a scale with other resources for each run. Raises `UsageError` for an unknown key or an impossible value."""
        return replace(self, resources=override(self.resources, resources))

    def join(self, *others: "Scale") -> "Scale":
        """Return a scale with the arms of other scales too; all of them run on this scale's resources."""
        return replace(self, arms=(*self.arms, *(arm for other in others for arm in other.arms)))
