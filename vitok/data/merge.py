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
    jobs: list[tuple[str, int, int, int]] = []
    each = FAN
    for name, all_parts in parts.items():
        groups = -(-len(all_parts) // each)
        jobs += [(name, group, number, groups) for group in range(groups) for number in range(groups) if groups > 1]

    def merge(job: int) -> dict[str, Any]:
        name, group, number, count = jobs[job]
        found = pa.concat_tables([rows(uri, *_range(number, count)) for uri in parts[name][group * each : (group + 1) * each]])
        return {"bytes": save(_file(work, job), found.sort_by([("hash", "ascending"), ("source", "ascending")]))}

    if jobs:
        done("merge", merge, len(jobs))
    found = {name: [Piece(0, WHOLE, tuple(uris))] for name, uris in parts.items()}
    for name in {name for name, *_ in jobs}:
        mine = [(job, number, count) for job, (of, _, number, count) in enumerate(jobs) if of == name]
        ranges = {(number, count) for _, number, count in mine}
        found[name] = [Piece(*_range(*r), tuple(_file(work, job) for job, *of in mine if tuple(of) == r)) for r in sorted(ranges)]
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


def _range(number: int, count: int) -> tuple[int, int]:
    return WHOLE * number // count, WHOLE * (number + 1) // count


def _file(work: str, job: int) -> str:
    return files.join(work, f"merge-{job:06d}.parquet")
