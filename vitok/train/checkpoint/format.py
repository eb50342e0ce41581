"""The files of a checkpoint: state.json, and one safetensors file a rank.

A tensor's name is engine/kind/parameter@start: the elements of that parameter from `start` on, flat. So any number of ranks, at any
stage of ZeRO, finds what it needs. The files are written here, not by safetensors' own writer, which copies every tensor and holds
Python's lock while training goes on; they are read by it.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

CHUNK = 16 << 20


def write(path: Path, tensors: dict[str, Tensor]) -> str:
    """Write a safetensors file of flat float32 CPU tensors; it is on the disk when this returns. Return its SHA-256."""
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": [tensor.numel()], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    total = hashlib.sha256()
    with path.open("wb", buffering=0) as file:
        for content in (len(text).to_bytes(8, "little"), text, *(tensor.numpy().data.cast("B") for tensor in tensors.values())):
            view = memoryview(content)
            for first in range(0, len(view), CHUNK):  # both release Python's lock
                total.update(view[first : first + CHUNK])
                rest = view[first : first + CHUNK]
                while len(rest):
                    rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    return total.hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint on the disk."""

    path: Path
    state: dict[str, Any]  # of state.json

    @property
    def step(self) -> int:
        """The number of steps that it was written after."""
        return self.state["step"]

    @property
    def updates(self) -> dict[str, int]:
        """The steps that have changed the weights, by engine."""
        return self.state["updates"]

    def read(self, engine: str, kind: str, parameter: str, start: int, size: int) -> Tensor:
        """Read elements start .. start + size - 1 of one kind of a parameter, flat (size,)."""
        found, got = torch.empty(size), 0
        for first, count, name, file in self._index[f"{engine}/{kind}/{parameter}"]:
            low, high = max(first, start), min(first + count, start + size)
            if low < high:
                found[low - start : high - start] = file.get_slice(name)[low - first : high - first]
                got += high - low
        assert got == size, f"{self.path}: {engine}/{kind}/{parameter} has {got} of the {size} elements from {start}"
        return found

    def whole(self, engine: str, kind: str, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        """Read all parameters of an engine, by name, in these shapes."""
        return {name: self.read(engine, kind, name, 0, shape.numel()).view(shape) for name, shape in shapes.items()}

    @cached_property
    def _index(self) -> dict[str, list[tuple[int, int, str, Any]]]:
        index: dict[str, list[tuple[int, int, str, Any]]] = defaultdict(list)
        for file_name in self.state["files"]:
            file = safe_open(self.path / file_name, "pt")
            for name in file.keys():  # noqa: SIM118 (not a dict)
                parameter, _, start = name.rpartition("@")
                index[parameter].append((int(start), file.get_slice(name).get_shape()[0], name, file))
        return index


def load(path: Path) -> Saved:
    """Open a checkpoint. Raises `ValueError` with what is wrong with it, as far as its state.json and the sizes of its files tell."""
    try:
        state = json.loads((path / "state.json").read_text())
        files: dict[str, Any] = state["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"state.json: {error}") from None
    for name, entry in files.items():
        if not (path / name).is_file():
            raise ValueError(f"{name} is missing")
        if (path / name).stat().st_size != entry["bytes"]:
            raise ValueError(f"{name} has {(path / name).stat().st_size} bytes instead of {entry['bytes']}")
    return Saved(path, state)


def damage(saved: Saved, names: Iterable[str]) -> str | None:
    """Return what is wrong with these files, by their checksums; None: nothing."""
    for name in names:
        try:
            if digest(saved.path / name) != saved.state["files"][name]["sha256"]:
                return f"{name} does not have its checksum"
            with safe_open(saved.path / name, "pt"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{name}: {error}"
    return None
