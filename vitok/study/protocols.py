"""Values go on one axis only if they were measured alike: but for what a cell itself is, which its row tells."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from vitok.metrics.names import METRICS
from vitok.metrics.protocol import Protocol
from vitok.study.study import Row

FRAMES = re.compile(r", \d+ frames at [\d.]+ a second")  # in a protocol's views
KEPT = re.compile(r"(; )?the first \d+ of \d+ tokens")  # in its settings


def measured(rows: list[Row]) -> tuple[str, ...]:
    """The metrics that any of these cells has, in the catalogue's order."""
    return tuple(name for name in METRICS if any(name in row for row in rows))


def comparable(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows without the metrics whose values may not be compared, and what there is to say of them."""
    problems: list[str] = []
    for metric in measured(rows):
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
    """The rows by what is left of their protocols without what the cells themselves are."""
    kinds: dict[str, tuple[Protocol | None, list[Row]]] = {}
    for row in rows:
        text = row["protocols"].get(metric)
        protocol = Protocol.parse(text) if text else None
        kinds.setdefault(_without(protocol, row).digest if protocol else "", (protocol, []))[1].append(row)
    return kinds


def _of_clips(metric: str, rows: list[Row]) -> list[Row]:
    """Those of clips, where beside them are single images, and a distance between sets parts the two and nothing else does."""
    clips = [row for row in rows if (row.get("frames") or 1) > 1]
    images = [row for row in rows if row not in clips]
    alike = clips and images and len(_kinds(metric, clips)) == len(_kinds(metric, images)) == 1
    return clips if alike and not METRICS[metric].paired else []


def _less(row: Row, metric: str) -> Row:
    return {name: value for name, value in row.items() if name != metric}


def _without(protocol: Protocol, row: Row) -> Protocol:
    """Without the size, the frames, the guidance and the length of the code of the cell itself: a study may well vary those. Of a clip a
    metric of pairs is the mean over its frames."""
    own: dict[str, Any] = {name: 0 for name in ("size", "frames") if getattr(protocol, name) == row.get(name)}
    settings = protocol.settings.replace(f"CFG {row['cfg']:g},", "CFG of the cell,") if "cfg" in row else protocol.settings
    settings = KEPT.sub("", settings) if "length" in row else settings
    return replace(protocol, settings=settings, views=FRAMES.sub("", protocol.views), **own)


def described(rows: list[Row]) -> list[Protocol]:
    """Those of the metrics that are shown."""
    texts = [row["protocols"][metric] for metric in measured(rows) for row in rows if metric in row["protocols"]]
    found = [Protocol.parse(text) for text in texts]
    return list({(one.metric, one.digest): one for one in found}.values())
