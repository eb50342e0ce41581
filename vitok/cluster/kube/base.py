"""What all objects have."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[kMGT]i?|Ki)?$")]  # unquoted numbers would do too; one form is enough


class Kube(BaseModel):
    """Strict: Kubernetes refuses a number where it wants a text, as of an environment variable."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Kube):
    name: Annotated[str, Field(pattern=NAME, max_length=63)]
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class PodMetadata(Kube):
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Expression(Kube):
    key: str
    operator: str
    values: list[str] | None = None


class Selector(Kube):
    """Empty: everything."""

    match_labels: dict[str, str] | None = None
    match_expressions: list[Expression] | None = None

    def selects(self, labels: dict[str, str]) -> bool:
        chosen = all(labels.get(key) == value for key, value in (self.match_labels or {}).items())
        return chosen and all(one.operator == "In" and labels.get(one.key) in (one.values or []) for one in self.match_expressions or [])
