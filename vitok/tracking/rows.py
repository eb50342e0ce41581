"""Runs in MLflow -> rows of results."""

from typing import Any

from mlflow.entities import Run

from vitok.analysis.rows import Row
from vitok.metrics.registry import PREFIX_SEPARATOR
from vitok.tracking.tags import CELL, COMMIT, PROTOCOL, VERSION


def version(run: Run) -> str:
    """Return the version of vitok that a run is of."""
    return run.data.tags.get(VERSION, "")


def row_of(run: Run) -> Row:
    """Return the row of a run: its cell, params as numbers where they are, protocols and final metrics."""
    row: Row = {
        "cell": run.data.tags[CELL],
        "run_id": run.info.run_id,
        "version": version(run),
        "commit": run.data.tags.get(COMMIT),
    }
    row |= {key: _number(value) for key, value in run.data.params.items()}
    row |= {key: row.get(f"tokenizer.tokenizer.{key}", row.get(f"tokenizer.{key}")) for key in ("size", "frames")}
    row["protocols"] = {k.removeprefix(PROTOCOL): v for k, v in run.data.tags.items() if k.startswith(PROTOCOL)}
    return row | {key.removeprefix("final/"): value for key, value in run.data.metrics.items() if key.startswith("final/")}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def rows_by_length(row: Row) -> list[Row]:
    """Split the row of a nested tokenizer (A.4), which is measured at several lengths of its code: a row for each shorter code, shortest
    first, with its own L, E and metrics; then the whole code's. Any other row stays as it is."""
    lengths = sorted(
        {
            int(name.partition(PREFIX_SEPARATOR)[2])
            for name in row
            if PREFIX_SEPARATOR in name and name.partition(PREFIX_SEPARATOR)[2].isdecimal()
        }
    )
    whole = {name: value for name, value in row.items() if PREFIX_SEPARATOR not in name}
    whole["protocols"] = {name: text for name, text in row["protocols"].items() if PREFIX_SEPARATOR not in name}
    found = [_shorter(row, whole, length) for length in lengths]
    return [*found, whole]


def _shorter(row: Row, whole: Row, length: int) -> Row:
    suffix, metrics = f"{PREFIX_SEPARATOR}{length}", [name.partition(PREFIX_SEPARATOR)[0] for name in row if PREFIX_SEPARATOR in name]
    floats = length * row["c"]
    own = {name: value for name, value in whole.items() if name not in metrics}
    own |= {"L": length, "E": floats, "compression": round(whole["compression"] * whole["E"] / floats, 3)}
    own |= {"cell": f"{row['cell']}{suffix}", "kept": f" first {length}", "length": length}
    own |= {name.removesuffix(suffix): value for name, value in row.items() if name.endswith(suffix)}
    return own | {"protocols": {name.removesuffix(suffix): text for name, text in row["protocols"].items() if name.endswith(suffix)}}
