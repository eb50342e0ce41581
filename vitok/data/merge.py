"""Which files hold a range of hashes, when an ingest has too many parts for each shard to look into all of them.

Up to `FAN` parts are looked into as they are. Above, groups of as many parts are first merged into as many files as there
are groups, each with a range of the hashes: with n parts, no task opens more than about max(FAN, 2 n / FAN) files, and a
corpus of 450 million images in 65,000 parts takes 65,000 merges. What the shards hold does not depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vitok.data import files

FAN = 256  # parts
WHOLE = 2**64  # the first eight bytes of a hash, as a number


@dataclass(frozen=True)
class Piece:
    """Files, each in the order of the hash, that hold everything between `low` and `high`."""

    low: int
    high: int
    files: tuple[str, ...]


def pieces(
    parts: dict[str, list[str]], work: str, save: Callable[[str, pa.Table], int], done: Callable[..., list[dict[str, Any]]]
) -> dict[str, list[Piece]]:
    """Of each split's parts. `done(kind, task, count)` runs the tasks that have not been done; `save(uri, table)` writes."""
    jobs: list[tuple[list[str], int, int]] = []  # the files of a group, and a range of hashes
    found: dict[str, list[Piece]] = {}
    for name, uris in parts.items():
        groups = [uris[first : first + FAN] for first in range(0, len(uris), FAN)]
        if len(groups) <= 1:
            found[name] = [Piece(0, WHOLE, tuple(uris))]
            continue
        found[name] = []
        for number in range(len(groups)):
            low, high, first = WHOLE * number // len(groups), WHOLE * (number + 1) // len(groups), len(jobs)
            jobs += [(group, low, high) for group in groups]
            found[name].append(Piece(low, high, tuple(_file(work, job) for job in range(first, len(jobs)))))

    def merge(job: int) -> dict[str, Any]:
        group, low, high = jobs[job]
        table = pa.concat_tables([rows(uri, low, high) for uri in group])
        return {"bytes": save(_file(work, job), table.sort_by([("hash", "ascending"), ("source", "ascending")]))}

    if jobs:
        done("merge", merge, len(jobs))
    return found


def collect(found: list[Piece], low: int, high: int, columns: list[str] | None = None) -> list[pa.Table]:
    """The rows of a range of hashes, from every file that can hold some."""
    return [rows(uri, low, high, columns) for piece in found if piece.low < high and low < piece.high for uri in piece.files]


def rows(uri: str, low: int, high: int, columns: list[str] | None = None) -> pa.Table:
    """Of one file: of the row groups that can hold some."""
    first, end = low.to_bytes(9, "big")[1:], None if high == WHOLE else high.to_bytes(8, "big")

    def attempt() -> pa.Table:
        with files.open_file(uri) as file:
            part = pq.ParquetFile(file)
            column = part.schema_arrow.get_field_index("hash")
            groups: list[int] = []
            for group in range(part.num_row_groups):
                seen = part.metadata.row_group(group).column(column).statistics
                if (seen is None or not seen.has_min_max) or (seen.max >= first and (end is None or seen.min < end)):
                    groups.append(group)
            return part.read_row_groups(groups, columns=columns, use_threads=False)

    found = files.retried(uri, attempt)
    return found.filter(pa.array([first <= h and (end is None or h < end) for h in found["hash"].to_pylist()], pa.bool_()))


def _file(work: str, job: int) -> str:
    return files.join(work, f"merge-{job:06d}.parquet")
