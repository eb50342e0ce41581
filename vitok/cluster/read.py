"""A file of any of the kinds, as text and as what the text says."""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitok.errors import UsageError

PLACEHOLDER = re.compile(r"<[a-z][a-z0-9-]*>")
LARGEST = 5_000_000  # bytes; of such files none comes near it


class UnreadableError(Exception):
    """A file that cannot be read, and why, in one line."""


@dataclass(frozen=True)
class File:
    """A file: its text, and the mappings that the text holds."""

    path: Path
    text: str
    documents: tuple[Any, ...]  # of YAML, JSON or TOML; none of other kinds

    @property
    def placeholders(self) -> list[str]:
        """What its user must still fill in, in order; comments do not count."""
        lines = (line for line in self.text.splitlines() if not line.lstrip().startswith("#"))
        return list(dict.fromkeys(name for line in lines for name in PLACEHOLDER.findall(line)))


def read(path: Path) -> File:
    """Read a file. Raises `UnreadableError` for what is not text or not what its name says, `UsageError` where there is no file."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        if path.stat().st_size > LARGEST:
            raise UnreadableError(f"has more than {LARGEST / 1e6:g} MB: it is none of the files of a cluster")
        text = path.read_text()
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UnreadableError("is not text in UTF-8") from None
    if not text.strip():
        raise UnreadableError("is empty")
    parse = {".yaml": _yaml, ".yml": _yaml, ".json": _json, ".toml": _toml}.get(path.suffix, lambda _: ())
    documents = parse(text)
    if path.suffix in (".yaml", ".yml", ".json", ".toml") and not any(isinstance(one, dict) and one for one in documents):
        raise UnreadableError("holds no mapping: each file of a cluster is one")
    return File(path, text, documents)


def _yaml(text: str) -> tuple[Any, ...]:
    import yaml

    class Strict(yaml.SafeLoader):
        """A key that stands twice is an error: PyYAML takes the last, and so would hide the first."""

    def mapping(loader: Any, node: Any, deep: bool = False) -> Any:
        seen = set[str]()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise UnreadableError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands twice in one mapping")
            seen.add(key.value if isinstance(key.value, str) else str(key.value))
        loader.flatten_mapping(node)
        return yaml.SafeLoader.construct_mapping(loader, node, deep)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: mapping(loader, node, deep=True))
    try:
        return tuple(one for one in yaml.load_all(text, Strict) if one is not None)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UnreadableError(f"is not YAML: {line}{error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise UnreadableError(f"is not YAML: {str(error).splitlines()[0]}") from None


def _json(text: str) -> tuple[Any, ...]:
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"is not JSON: {error}") from None


def _toml(text: str) -> tuple[Any, ...]:
    try:
        return (tomllib.loads(text),)
    except tomllib.TOMLDecodeError as error:
        raise UnreadableError(f"is not TOML: {error}") from None
