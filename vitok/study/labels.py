"""What cells are called: the paper's names, and what they differ in where those do not tell them apart."""

import re
from collections.abc import Sequence
from typing import Any

from vitok.analysis.rows import Row

DESCRIBED = (
    "variant", "dit", "stage", "p", "q", "c", "L", "E", "compression", "params_m", "gmacs", "encoder_params_m", "decoder_params_m", "cfg",
    "size", "frames",
)  # fmt: skip
DERIVED = ("start", "stage1", "gan")  # hashes of weights follow from the rest; whole parts that are there or not say nothing by themselves
TOP = ("batch_size", "steps", "precision", "ema", "conditional")  # a recipe's keys without a dot
SEED = re.compile(r" seed=\d+| \(DiT seed=\d+\)")


def base_label(described: dict[str, Any], settings: dict[str, Any]) -> str:
    """From a cell's columns and its recipe's flat keys, as `grid.describe` and MLflow have them; of an evaluation, its subject."""
    if "subject" in described:
        return described["subject"]
    seed = described["seed"]
    own = settings.get("tokenizer.seed", seed)
    text = f"{described['variant']} c={described['c']} seed={own}" + (" stage 2" if described.get("stage") == 2 else "")
    if "dit" not in described:
        return text
    return f"{described['dit']} on {text}" + ("" if own == seed else f" (DiT seed={seed})")


def tell_apart(labels: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[str]:
    """Labels that stand for several cells get the settings behind them that these cells differ in."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for label, own in zip(labels, settings, strict=True):
        groups.setdefault(label, []).append(own)
    differing = {label: _differing(group) for label, group in groups.items()}
    return [
        " ".join([label, *(f"{short}={own.get(key)}" for short, key in differing[label].items())])
        for label, own in zip(labels, settings, strict=True)
    ]


def _differing(group: list[dict[str, Any]]) -> dict[str, str]:
    """By its shortest unmistakable name. What differs in a stage 1 as in the stage 2 that continues it is told once."""
    known = dict.fromkeys(key for one in group for key in one if key not in (*DERIVED, *DESCRIBED))
    found = [key for key in known if len({str(one.get(key)) for one in group}) > 1]
    found = [key for key in found if not any(other != key and _follows(key, other, group) for other in found)]
    leaves = [key.rpartition(".")[2] for key in found]
    return {leaf if leaves.count(leaf) == 1 else key: key for leaf, key in zip(leaves, found, strict=True)}


def _follows(key: str, other: str, group: list[dict[str, Any]]) -> bool:
    """Whether a stage 1's setting is always that of its stage 2."""
    return key.replace("stage1.", "") == other and all(str(one.get(key)) == str(one.get(other)) for one in group)


def named(rows: list[Row]) -> list[Row]:
    """Rows with their "label", and their "setting": the same for cells that differ in nothing but their seed."""
    params = [{key: row[key] for key in row if key == "seed" or "." in key or key in TOP} for row in rows]
    labels = [base_label(row, own) for row, own in zip(rows, params, strict=True)]
    labels = tell_apart([f"{label}{row.get('kept', '')}" for label, row in zip(labels, rows, strict=True)], params)
    return [row | {"label": label, "setting": SEED.sub("", label)} for row, label in zip(rows, labels, strict=True)]
