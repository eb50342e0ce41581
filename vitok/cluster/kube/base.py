"""Bases of the models of Kubernetes objects, with the fields that all objects have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
Quantity = Annotated[
    str, Field(pattern=r"^\d+(\.\d+)?(m|[kMGT]i?|Ki)?$")
]  # Kubernetes takes numbers without quotes, too: one form is enough
PortNumber = Annotated[int, Field(gt=0, lt=65536)]


class CustomResource(BaseModel):
    """A part of an object that KubeRay or Kueue defines: a key that is not among its fields is refused, a number is not taken for a text.

    No package carries their schemas: the fields in use are written out. `tests/cluster/test_kuberay.py` holds them against KubeRay's own.
    """

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Excerpt(BaseModel):
    """The fields of a Kubernetes object that rules look at: the object as a whole has been held against Kubernetes' own schema."""

    model_config = ConfigDict(extra="ignore", strict=True, alias_generator=to_camel)


class Metadata(Excerpt):
    """The name of an object: what DNS takes, so that a Service can have it."""

    name: Annotated[str, Field(pattern=NAME, max_length=63)]


class LabelRequirement(CustomResource):
    """One of a selector's `matchExpressions`."""

    key: str
    operator: str
    values: list[str] | None = None


class Selector(CustomResource):
    """A label selector; an empty one selects everything."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelRequirement] | None = None

    def selects(self, labels: dict[str, str]) -> bool:
        """Return whether an object with these labels is selected. Of the operators `In` is understood; with another, nothing is."""
        chosen = all(labels.get(key) == value for key, value in (self.match_labels or {}).items())
        return chosen and all(one.operator == "In" and labels.get(one.key) in (one.values or []) for one in self.match_expressions or [])
