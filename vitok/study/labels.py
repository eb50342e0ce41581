"""Labels of cells: the paper's names, and the settings in which cells of one name differ."""

import re
from collections.abc import Sequence
from typing import Any

from vitok.analysis.rows import Row

DESCRIBED_COLUMNS = (
    "variant", "dit", "stage", "p", "q", "c", "L", "E", "compression", "params_m", "gmacs", "encoder_params_m", "decoder_params_m", "cfg",
    "size", "frames",
)  # fmt: skip
DERIVED_KEYS = ("start", "stage1", "gan")  # hashes of weights follow from other keys, and so does the presence of a whole part
TOP_LEVEL_KEYS = ("batch_size", "steps", "precision", "ema", "conditional")  # a recipe's keys without a dot
SEED_SUFFIX = re.compile(r" seed=\d+| \(DiT seed=\d+\)")


def base_label(described: dict[str, Any], settings: dict[str, Any]) -> str:
    """Return the label that follows from a cell's columns and its recipe's dotted keys, as `grid.describe` and MLflow have them.

    The label of an evaluation is its subject.
    """
    if "subject" in described:
        return described["subject"]
    seed = described["seed"]
    own = settings.get("tokenizer.seed", seed)
    text = f"{described['variant']} c={described['c']} seed={own}" + (" stage 2" if described.get("stage") == 2 else "")
    if "dit" not in described:
        return text
    return f"{described['dit']} on {text}" + ("" if own == seed else f" (DiT seed={seed})")


def distinguish_labels(labels: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[str]:
    """Append to labels that stand for several cells the settings in which these cells differ."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for label, own in zip(labels, settings, strict=True):
        groups.setdefault(label, []).append(own)
    differing = {label: _differing_keys(group) for label, group in groups.items()}
    return [
        " ".join([label, *(f"{short}={own.get(key)}" for short, key in differing[label].items())])
        for label, own in zip(labels, settings, strict=True)
    ]


def _differing_keys(group: list[dict[str, Any]]) -> dict[str, str]:
    """Return the keys in which a group of cells differs, by their shortest unambiguous names.

    A key of a stage 1 that always equals that of the stage 2 which continues it is left out.
    """
    known = dict.fromkeys(key for one in group for key in one if key not in (*DERIVED_KEYS, *DESCRIBED_COLUMNS))
    found = [key for key in known if len({str(one.get(key)) for one in group}) > 1]
    found = [key for key in found if not any(other != key and _is_mirrored(key, other, group) for other in found)]
    leaves = [key.rpartition(".")[2] for key in found]
    return {leaf if leaves.count(leaf) == 1 else key: key for leaf, key in zip(leaves, found, strict=True)}


def _is_mirrored(key: str, other: str, group: list[dict[str, Any]]) -> bool:
    """Return whether a stage 1's setting always equals that of its stage 2."""
    return key.replace("stage1.", "") == other and all(str(one.get(key)) == str(one.get(other)) for one in group)


def with_labels(rows: list[Row]) -> list[Row]:
    """Return rows with their "label", and their "setting": the label without seeds, which cells share that differ in their seed alone."""
    params = [{key: row[key] for key in row if key == "seed" or "." in key or key in TOP_LEVEL_KEYS} for row in rows]
    labels = [base_label(row, own) for row, own in zip(rows, params, strict=True)]
    labels = distinguish_labels([f"{label}{row.get('kept', '')}" for label, row in zip(labels, rows, strict=True)], params)
    return [row | {"label": label, "setting": SEED_SUFFIX.sub("", label)} for row, label in zip(rows, labels, strict=True)]
