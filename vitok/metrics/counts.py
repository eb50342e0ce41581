"""What an evaluation has counted so far, on disk: a killed one goes on from there."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from vitok.data import mirror

STATE = "state"


def keep(path: Path, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Whole, or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **{STATE: np.array(json.dumps(state))})  # pyright: ignore[reportArgumentType]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)
    mirror.keep(path)


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    if not mirror.fetch(path).is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop(STATE))), arrays
