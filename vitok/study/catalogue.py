"""Catalogue of the studies in a folder: one file each, found by its name."""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vitok
from vitok.errors import UsageError
from vitok.study.collection import Collection
from vitok.study.study import Study


@dataclass(frozen=True)
class CatalogueEntry:
    """A study file of the catalogue."""

    name: str
    path: Path
    holds: Study[Any] | Collection
    doc: str


def find_folder(asked: Path | None) -> Path:
    """Return the folder of studies: the one that is given, ./studies, or the one beside this package. Raises `UsageError` if there is
    none.
    """
    places = [asked] if asked else [Path("studies"), Path(vitok.__file__).parent.parent / "studies"]
    found = next((place for place in places if place.is_dir()), None)
    if found is None:
        raise UsageError(f"there is no folder {' or '.join(map(str, places))}: give one with --folder, or go to the one that holds it")
    return found.absolute()


def load_catalogue(place: Path) -> list[CatalogueEntry]:
    """Load all studies of a folder, ordered by name. Raises `UsageError` for a file that cannot be read, or whose study has another
    name.
    """
    return [_load_file(path) for path in sorted(place.glob("*.py")) if not path.name.startswith("_")]


def select_entries(entries: list[CatalogueEntry], names: tuple[str, ...]) -> list[CatalogueEntry]:
    """Return the entries of these names, each once. Raises `UsageError` for an unknown name."""
    known = {entry.name: entry for entry in entries}
    if unknown := [name for name in names if name not in known]:
        raise UsageError(f"unknown study {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _load_file(path: Path) -> CatalogueEntry:
    """Run a study file and return its entry."""
    for parent in (str(path.parent.parent), str(path.parent)):  # so that a study can import another one
        if parent not in sys.path:
            sys.path.append(parent)
    spec = importlib.util.spec_from_file_location(f"studies.{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything
        raise UsageError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
    holds = getattr(module, "study", None)
    if not isinstance(holds, Study | Collection):
        raise UsageError(f"{path} holds no study: it must set `study = Study(...)`")
    if holds.name != path.stem:
        raise UsageError(f"{path} holds the study {holds.name!r}: call the file {holds.name}.py, or the study {path.stem!r}")
    return CatalogueEntry(holds.name, path, holds, module.__doc__ or "")
