"""The results that a report is written from: a sweep's finished cells, from MLflow alone, and which of their values may be compared.

Values go on one axis only if they were measured alike: but for what a cell itself is, which its row tells.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import vitok
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.protocol import Protocol
from vitok.metrics.registry import METRICS, PREFIX_SEPARATOR, SAMPLE_COLUMN
from vitok.tracking.tags import BASELINES, CELLS, UNAVAILABLE

if TYPE_CHECKING:
    from vitok.tracking.client import Tracker

COLUMNS = (
    "variant", "dit", "stage", "size", "frames", "p", "q", "c", "L", "E", "compression", "params_m", "gmacs", "seed", "cfg",
)  # fmt: skip
ONLY_VARIED = ("stage", "size", "frames")  # which every table would have
PICTURES = ("reconstructions.png", "samples.png")


@dataclass(frozen=True)
class StudyResults:
    """The finished cells of a sweep."""

    tags: dict[str, str]  # of the sweep
    rows: list[Row]  # of cells that may be compared, in the order of E
    others: list[Row]  # of cells that another version of the code finished: shown, not mixed with those
    beside: list[Row]  # of baselines
    planned: int
    problems: list[str]


def collect_results(study: str, tracker: "Tracker", sweep: str, any_version: bool) -> StudyResults:
    """Collect the finished cells of a sweep. Raises `VitokError` if nothing is finished."""
    parent = tracker.find_sweep(sweep)
    wanted = parent.data.tags[CELLS].split() if parent else []
    every = tracker.rows(tracker.finished(wanted, any_version=True).values())
    if parent is None or not every:
        raise VitokError(f"{study}: no finished cell to report on; `run` it first")
    rows, others, problems = (every, [], []) if any_version else _of_one_version(every)
    beside = tracker.rows(tracker.finished(parent.data.tags.get(BASELINES, "").split(), any_version=True).values())
    rows.sort(key=lambda row: (row["E"], row["p"], row["label"]))
    first = min(row["seed"] for row in rows)
    for row in rows:
        _add_artifacts(row, tracker, pictured=row["seed"] == first)
    rows, more = drop_incomparable(rows)
    problems += [*more, *parent.data.tags.get(UNAVAILABLE, "").splitlines()]
    return StudyResults(parent.data.tags, rows, others, beside, len(wanted), problems)


def _of_one_version(rows: list[Row]) -> tuple[list[Row], list[Row], list[str]]:
    """Return the rows of this version of vitok, or else of the one that has most; the other rows; what there is to say."""
    count = Counter(row["version"] for row in rows)
    if len(count) == 1:
        return rows, [], []
    taken = vitok.__version__ if vitok.__version__ in count else count.most_common(1)[0][0]
    others = [row for row in rows if row["version"] != taken]
    versions = ", ".join(sorted({row["version"] or "an unknown version" for row in others}))
    problem = f"{len(others)} cells of vitok {versions} are shown apart from those of {taken}: `report --any-version` takes all together"
    return [row for row in rows if row["version"] == taken], others, [problem]


def _add_artifacts(row: Row, tracker: "Tracker", pictured: bool) -> None:
    """Add the values of single images, where there are some (to ask MLflow for an artifact that is not there takes its retries), and a
    picture."""
    content = None if is_generator_row(row) else tracker.artifact(row["run_id"], "per_image.json")
    suffix = f"{PREFIX_SEPARATOR}{row['length']}" if "length" in row else ""
    values: dict[str, Any] = json.loads(content) if content else {}
    row["per_image"] = {
        name.removesuffix(suffix): each
        for name, each in values.items()
        if name.endswith(suffix) and (suffix or PREFIX_SEPARATOR not in name)
    } | ({SAMPLE_COLUMN: values[SAMPLE_COLUMN]} if SAMPLE_COLUMN in values else {})
    if pictured and not suffix:
        row["picture"] = tracker.artifact(row["run_id"], PICTURES[is_generator_row(row)])


def is_generator_row(row: Row) -> bool:
    """Return whether a row is a generator's."""
    return "dit" in row


def table_columns(rows: list[Row]) -> tuple[str, ...]:
    """Return the columns that any of the rows has; some of them only where they are not all the same."""
    known = [name for name in COLUMNS if any(name in row for row in rows)]
    return tuple(name for name in known if name not in ONLY_VARIED or len({row.get(name) for row in rows}) > 1)


FRAMES = re.compile(r", \d+ frames at [\d.]+ a second")  # in a protocol's views
KEPT = re.compile(r"(; )?the first \d+ of \d+ tokens")  # in its settings


def measured_metrics(rows: list[Row]) -> tuple[str, ...]:
    """Return the metrics that any of these cells has, in the catalogue's order."""
    return tuple(name for name in METRICS if any(name in row for row in rows))


def drop_incomparable(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows without the metrics whose values may not be compared, and what there is to say of them."""
    problems: list[str] = []
    for metric in measured_metrics(rows):
        having = [row for row in rows if metric in row]
        kinds = _kinds(metric, having)
        if len(kinds) > 1 and (longest := _of_clips(metric, having)):
            lost = [row for row in having if row not in longest]
            problems.append(f"{metric} of single images is left out ({len(lost)} cells): a set of frames of clips is another set")
            rows = [_less(row, metric) if row in lost else row for row in rows]
        elif len(kinds) > 1:
            (first, some), (second, others), *_ = kinds.values()
            what = first.differs(second) if first and second else "one of them is not known"
            problems.append(
                f"{metric} is left out: {len(some)} and {len(others)} of the cells were measured by different protocols ({what}); "
                f"measure them alike with `vitok eval RUN --metrics {metric}`"
            )
            rows = [_less(row, metric) for row in rows]
        elif lacking := [row for row in rows if metric not in row and metric.startswith("g") == ("dit" in row)]:
            of = len(having) + len(lacking)
            problems.append(f"{metric} was measured in {len(having)} of {of} cells; the others get it with `vitok eval RUN`")
    return rows, problems


def _kinds(metric: str, rows: Iterable[Row]) -> dict[str, tuple[Protocol | None, list[Row]]]:
    """Return the rows by what is left of their protocols without what the cells themselves are."""
    kinds: dict[str, tuple[Protocol | None, list[Row]]] = {}
    for row in rows:
        text = row["protocols"].get(metric)
        protocol = Protocol.parse(text) if text else None
        kinds.setdefault(_without(protocol, row).digest if protocol else "", (protocol, []))[1].append(row)
    return kinds


def _of_clips(metric: str, rows: list[Row]) -> list[Row]:
    """Return the rows of clips, where beside them are single images, and a distance between sets parts the two and nothing else does."""
    clips = [row for row in rows if (row.get("frames") or 1) > 1]
    images = [row for row in rows if row not in clips]
    alike = clips and images and len(_kinds(metric, clips)) == len(_kinds(metric, images)) == 1
    return clips if alike and not METRICS[metric].paired else []


def _less(row: Row, metric: str) -> Row:
    return {name: value for name, value in row.items() if name != metric}


def _without(protocol: Protocol, row: Row) -> Protocol:
    """Return a protocol without the size, the frames, the guidance and the length of the code of the cell itself: a study may well vary
    those. Of a clip a metric of pairs is the mean over its frames."""
    own: dict[str, Any] = {name: 0 for name in ("size", "frames") if getattr(protocol, name) == row.get(name)}
    settings = protocol.settings.replace(f"CFG {row['cfg']:g},", "CFG of the cell,") if "cfg" in row else protocol.settings
    settings = KEPT.sub("", settings) if "length" in row else settings
    return replace(protocol, settings=settings, views=FRAMES.sub("", protocol.views), **own)


def row_protocols(rows: list[Row]) -> list[Protocol]:
    """Return the protocols of the metrics that are shown."""
    texts = [row["protocols"][metric] for metric in measured_metrics(rows) for row in rows if metric in row["protocols"]]
    found = [Protocol.parse(text) for text in texts]
    return list({(one.metric, one.digest): one for one in found}.values())
