"""What a report is written from: a sweep's finished cells, from MLflow alone."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import vitok
from vitok.errors import VitokError
from vitok.metrics.names import MARK, SAMPLE
from vitok.study.protocols import comparable
from vitok.study.study import Row
from vitok.study.tracking import BESIDE, CELLS, LACKING, Tracker

COLUMNS = (
    "variant", "dit", "stage", "size", "frames", "p", "q", "c", "L", "E", "compression", "params_m", "gmacs", "seed", "cfg",
)  # fmt: skip
ONLY_VARIED = ("stage", "size", "frames")  # which every table would have
PICTURES = ("reconstructions.png", "samples.png")


@dataclass(frozen=True)
class Gathered:
    tags: dict[str, str]  # of the sweep
    rows: list[Row]  # of cells that may be compared, in the order of E
    others: list[Row]  # of cells that another version of the code finished: shown, not mixed with those
    beside: list[Row]  # of baselines
    planned: int
    problems: list[str]


def gather(study: str, tracker: Tracker, sweep: str, any_version: bool) -> Gathered:
    """Raises `VitokError` if nothing is finished."""
    parent = tracker.find_sweep(sweep)
    wanted = parent.data.tags[CELLS].split() if parent else []
    every = tracker.rows(tracker.finished(wanted, any_version=True).values())
    if parent is None or not every:
        raise VitokError(f"{study}: no finished cell to report on; `run` it first")
    rows, others, problems = (every, [], []) if any_version else _of_one_version(every)
    beside = tracker.rows(tracker.finished(parent.data.tags.get(BESIDE, "").split(), any_version=True).values())
    rows.sort(key=lambda row: (row["E"], row["p"], row["label"]))
    first = min(row["seed"] for row in rows)
    for row in rows:
        _add_artifacts(row, tracker, pictured=row["seed"] == first)
    rows, more = comparable(rows)
    problems += [*more, *parent.data.tags.get(LACKING, "").splitlines()]
    return Gathered(parent.data.tags, rows, others, beside, len(wanted), problems)


def _of_one_version(rows: list[Row]) -> tuple[list[Row], list[Row], list[str]]:
    """(rows of this version of the code, or else of the one that has most; the others; what there is to say)"""
    count = Counter(row["version"] for row in rows)
    if len(count) == 1:
        return rows, [], []
    taken = vitok.__version__ if vitok.__version__ in count else count.most_common(1)[0][0]
    others = [row for row in rows if row["version"] != taken]
    versions = ", ".join(sorted({row["version"] or "an unknown version" for row in others}))
    problem = f"{len(others)} cells of vitok {versions} are shown apart from those of {taken}: `report --any-version` takes all together"
    return [row for row in rows if row["version"] == taken], others, [problem]


def _add_artifacts(row: Row, tracker: Tracker, pictured: bool) -> None:
    """Values of single images, where there are some (to ask MLflow for an artifact that is not there takes its retries), and a picture."""
    content = None if generated(row) else tracker.artifact(row["run_id"], "per_image.json")
    suffix = f"{MARK}{row['length']}" if "length" in row else ""
    values: dict[str, Any] = json.loads(content) if content else {}
    row["per_image"] = {
        name.removesuffix(suffix): each for name, each in values.items() if name.endswith(suffix) and (suffix or MARK not in name)
    } | ({SAMPLE: values[SAMPLE]} if SAMPLE in values else {})
    if pictured and not suffix:
        row["picture"] = tracker.artifact(row["run_id"], PICTURES[generated(row)])


def generated(row: Row) -> bool:
    """Whether it is a generator's cell."""
    return "dit" in row


def columns(rows: list[Row]) -> tuple[str, ...]:
    """Those that any of the rows has; of some, only where they are not all the same."""
    known = [name for name in COLUMNS if any(name in row for row in rows)]
    return tuple(name for name in known if name not in ONLY_VARIED or len({row.get(name) for row in rows}) > 1)
