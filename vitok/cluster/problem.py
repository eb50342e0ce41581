"""What is wrong with a file, where in it, and the way out."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """`where`: a path in the file, as in available_node_types.cpu.resources; empty: the file as a whole."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


def joined(*parts: object) -> str:
    """Return a path in a file, of parts that are neither empty nor None."""
    return ".".join(str(part) for part in parts if part not in ("", None))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the right name, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1, 0.6)
    return f": did you mean {close[0]}?" if close else ""


def checked(model: type[M], found: Any, where: str = "") -> tuple[M | None, list[Problem]]:
    """Validate a value by a model. Return the model, or None and all that pydantic has against the value."""
    try:
        return model.model_validate(found), []
    except ValidationError as error:
        known = fields(model)
        problems: list[Problem] = []
        for one in error.errors(include_url=False):
            path = joined(where, *(part for part in one["loc"] if not str(part).startswith(("function-", "model-"))))
            if one["type"] == "extra_forbidden":
                what = f"unknown key{nearest(str(one['loc'][-1]), known) or '; remove it'}"
            elif one["type"] == "missing":
                what = "missing; add it"
            elif one["type"] == "value_error":
                what = str(one["ctx"]["error"]) if "ctx" in one else one["msg"]
            else:
                what = f"{one['msg'][0].lower()}{one['msg'][1:]}, not {str(one['input'])[:60]!r}"
            problems.append(Problem(path, what))
        return None, problems


def fields(model: type[BaseModel]) -> set[str]:
    """Return the names that a model and those inside it take, as they are written in files."""
    return {name for _, name in places(model)}


def places(model: type[BaseModel]) -> set[tuple[tuple[str, ...], str]]:
    """Return (path of the model's mappings, name) of every field; lists are not part of a path."""
    found: set[tuple[tuple[str, ...], str]] = set()

    def walk(one: type[BaseModel], path: tuple[str, ...]) -> None:
        for name, field in one.model_fields.items():
            name = field.alias or name
            found.add((path, name))
            for inner in _models(field.annotation):
                walk(inner, (*path, name))

    walk(model, ())
    return found


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models(argument)
