"""Changes of configs by dotted keys, as a grid or a command line names them: {"loss.kl": "1e-4"}."""

import difflib
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vitok.errors import UsageError

Model = TypeVar("Model", bound=BaseModel)


def override(config: Model, changes: dict[str, Any]) -> Model:
    """Return a copy of `config` with dotted keys replaced, validated as a whole.

    Values may be strings, as a command line gives them. Raises `UsageError` for an unknown key or an impossible value.
    """
    tree = config.model_dump()
    for key, value in changes.items():
        require_key(config, key)
        *path, leaf = key.split(".")
        node: Any = tree
        for part in path:
            node = node[part]
        node[leaf] = value
    try:
        return type(config).model_validate(tree)
    except ValidationError as error:
        raise UsageError(describe_error(error)) from None


def require_key(config: BaseModel, key: str) -> None:
    """Raise `UsageError` unless `key` is the dotted name of a leaf of `config`."""
    names = leaf_keys(config)
    if key in names:
        return
    near = difflib.get_close_matches(key, names, n=3) or [n for n in names if n.endswith("." + key.split(".")[-1])]
    raise UsageError(f"unknown key {key!r}; " + (f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(names)}"))


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted keys."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


def unflatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Nest settings with dotted keys: the inverse of `flatten`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        *path, leaf = key.split(".")
        node = found
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return found


def leaf_keys(config: BaseModel, prefix: str = "") -> list[str]:
    """Return the dotted names of all leaves of `config`."""
    names: list[str] = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        names += leaf_keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
    return names


def describe_error(error: ValidationError) -> str:
    """Describe a pydantic error in one line: the key, the value and the problem."""
    parts: list[str] = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        text = item["msg"].removeprefix("Value error, ")
        parts.append(f"{where} = {item['input']!r}: {text}" if where and not isinstance(item["input"], dict) else text)
    return "; ".join(parts)
