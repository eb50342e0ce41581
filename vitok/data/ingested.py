"""What `vitok data ingest` leaves behind: shards of Parquet and a manifest, and how they are read as a corpus."""

import json
from typing import Any

import pyarrow as pa

from vitok.data import files
from vitok.data.layouts import Found, Listing
from vitok.data.splits import Columns, Rows
from vitok.errors import UsageError

MANIFEST, VERSION = "manifest.json", 1
COLUMNS = Columns("data", "label", "source")


def manifest(root: str) -> dict[str, Any]:
    try:
        found = json.loads(files.read(files.join(root, MANIFEST)))
    except ValueError:
        raise UsageError(f"{files.join(root, MANIFEST)} is no JSON: run the ingest again") from None
    if not isinstance(found, dict) or found.get("version") != VERSION:
        raise UsageError(f"{root!r}: {MANIFEST} is not of version {VERSION}: ingest again with this vitok")
    return found


def found(root: str, listing: Listing) -> Found:
    """The shards that the manifest names. Rows lie in the order of their content's hash, so that every row group is a
    random draw from the corpus already and the epochs need to mix groups only."""
    stated = manifest(root)
    there = {name for name, _ in listing}
    shards: list[dict[str, Any]] = stated["shards"]
    if missing := [shard["file"] for shard in shards if shard["file"] not in there]:
        raise UsageError(f"{root!r}: {len(missing)} shard(s) of the manifest are not there, the first: {missing[0]}")
    names = tuple(shard["file"] for shard in shards)
    splits: list[Rows] = []
    for part in ("train", "validation"):
        rows = [
            (number, group, 0, count)
            for number, shard in enumerate(shards) if shard["split"] == part
            for group, count in enumerate(_groups(shard["rows"], stated["group_rows"]))
        ]  # fmt: skip
        turned = zip(*rows, strict=True) if rows else [[], [], [], []]
        table = pa.table({n: pa.array(list(v), pa.int64()) for n, v in zip(("file", "group", "first", "rows"), turned, strict=True)})
        splits.append(Rows(root, names, table, COLUMNS, window=1))
    return Found(stated["kind"], splits[0], splits[1], tuple(stated["classes"]), stated["fingerprint"])


def _groups(rows: int, each: int) -> list[int]:
    whole, rest = divmod(rows, each)
    return [each] * whole + ([rest] if rest else [])
