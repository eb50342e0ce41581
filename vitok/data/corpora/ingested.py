"""Ingested corpora: read the Parquet shards and the manifest that `vitok data ingest` writes."""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from vitok.data.corpora.folders import Listing, RecognisedCorpus
from vitok.data.corpora.splits import Columns, Rows
from vitok.errors import UsageError
from vitok.storage import filesystem

MANIFEST, VERSION = "manifest.json", 1
COLUMNS = Columns("data", "label", "source")


def manifest(root: str) -> dict[str, Any]:
    """Return the manifest of an ingested corpus. Raise `UsageError` where it is no JSON or of another version."""
    try:
        found = json.loads(filesystem.read(filesystem.join(root, MANIFEST)))
    except ValueError:
        raise UsageError(f"{filesystem.join(root, MANIFEST)} is no JSON: run the ingest again") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise UsageError(f"{root!r}: {MANIFEST} is not of version {VERSION}: ingest again with this vitok")
    return found


def found(root: str, listing: Listing) -> RecognisedCorpus:
    """Return the splits of an ingested corpus from the shards that its manifest names. Raise `UsageError` where a shard is missing.

    Rows are sorted by the hash of their content. Each row group is therefore a random draw from the whole corpus, and an epoch needs to
    shuffle only the order of the row groups (window = 1).
    """
    stated = manifest(root)
    there = {name for name, _ in listing}
    shards: list[dict[str, Any]] = stated["shards"]
    if missing := [shard["file"] for shard in shards if shard["file"] not in there]:
        raise UsageError(f"{root!r}: {len(missing)} shard(s) of the manifest are not there, the first: {missing[0]}")
    names = tuple(shard["file"] for shard in shards)
    splits: list[Rows] = []
    each = int(stated["group_rows"])
    for part in ("train", "validation"):
        mine = [(number, int(shard["rows"])) for number, shard in enumerate(shards) if shard["split"] == part]
        groups = [np.arange(-(-rows // each)) for _, rows in mine]
        counts = [np.minimum(rows - group * each, each) for (_, rows), group in zip(mine, groups, strict=True)]
        none = np.zeros(0, int)
        columns = {
            "file": np.repeat(np.array([number for number, _ in mine], int), np.array([len(group) for group in groups], int)),
            "group": np.concatenate([none, *groups]), "rows": np.concatenate([none, *counts]),
        }  # fmt: skip
        columns["first"] = np.zeros(len(columns["rows"]), int)
        table = pa.table({name: column.astype(np.int32) for name, column in columns.items()})
        splits.append(Rows(root, names, table, COLUMNS, window=1))
    return RecognisedCorpus(
        stated["kind"], splits[0], splits[1], tuple(stated["classes"]), stated["fingerprint"], parts=("train", "validation"),
        read=(*names, MANIFEST),
    )  # fmt: skip
