"""A nested tokenizer (A.4) is measured at several lengths of its code: a row each."""

from vitok.metrics.names import MARK
from vitok.study.study import Row


def of_lengths(row: Row) -> list[Row]:
    """A cell's row as it is; and for each shorter code one with its L, its E and what was measured at it, shortest first."""
    lengths = sorted({int(name.partition(MARK)[2]) for name in row if MARK in name and name.partition(MARK)[2].isdecimal()})
    whole = {name: value for name, value in row.items() if MARK not in name}
    whole["protocols"] = {name: text for name, text in row["protocols"].items() if MARK not in name}
    found = [_shorter(row, whole, length) for length in lengths]
    return [*found, whole]


def _shorter(row: Row, whole: Row, length: int) -> Row:
    suffix, metrics = f"{MARK}{length}", [name.partition(MARK)[0] for name in row if MARK in name]
    floats = length * row["c"]
    own = {name: value for name, value in whole.items() if name not in metrics}
    own |= {"L": length, "E": floats, "compression": round(whole["compression"] * whole["E"] / floats, 3)}
    own |= {"cell": f"{row['cell']}{suffix}", "kept": f" first {length}", "length": length}
    own |= {name.removesuffix(suffix): value for name, value in row.items() if name.endswith(suffix)}
    return own | {"protocols": {name.removesuffix(suffix): text for name, text in row["protocols"].items() if name.endswith(suffix)}}
