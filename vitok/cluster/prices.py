"""Prices of nodes, from one file that its user keeps."""

import datetime
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from vitok.cluster.problem import Problem, checked, joined
from vitok.errors import UsageError, VitokError

FILE = Path(__file__).parents[2] / "clusters" / "prices.toml"
PROVIDERS = ("aws", "gcp", "other")


class Price(BaseModel):
    """The price of a node, US dollars an hour, with the place and the date of its reading."""

    model_config = ConfigDict(extra="forbid", strict=True)

    usd: Annotated[float, Field(gt=0)]  # an hour
    source: Annotated[str, Field(min_length=1)]
    date: str

    @field_validator("date")
    @classmethod
    def _a_date(cls, text: str) -> str:
        try:
            datetime.date.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a date, YEAR-MONTH-DAY") from None
        return text


class PricedNode(BaseModel):
    """A type of node: its GPUs, its region and its prices."""

    model_config = ConfigDict(extra="forbid", strict=True)

    region: str
    gpus: Annotated[int, Field(ge=0)] = 0
    on_demand: Price
    spot: Price | None = None


def problems(document: dict[str, Any]) -> list[Problem]:
    """Return all that is wrong with a file of prices."""
    found: list[Problem] = []
    for provider, types in document.items():
        if provider not in PROVIDERS or not isinstance(types, dict):
            found.append(Problem(provider, f"unknown provider; known are {', '.join(PROVIDERS)}"))
            continue
        for name, node in types.items():
            found += checked(PricedNode, node, joined(provider, name))[1]
    return found


def load(path: Path) -> dict[str, PricedNode]:
    """Return the nodes of a price file by type: no two providers have one name for theirs. Raises `UsageError` for a file that is not
    right."""
    try:
        document = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"prices {path}: {error.strerror if isinstance(error, OSError) else error}") from None
    if wrong := problems(document):
        raise UsageError(f"prices {path}: {wrong[0]}")
    nodes = TypeAdapter(dict[str, dict[str, PricedNode]]).validate_python(document)
    return {name: node for types in nodes.values() for name, node in types.items()}


def price(prices: dict[str, PricedNode], instance: str, spot: bool, path: Path) -> Price:
    """Return the price of a type of node. Raises `VitokError`, naming it, where the file does not have it."""
    if instance not in prices:
        raise VitokError(f"{path} has no price of {instance}: add one")
    found = prices[instance].spot if spot else prices[instance].on_demand
    if found is None:
        raise VitokError(f"{path} has no spot price of {instance}: add one")
    return found
