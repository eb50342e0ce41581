"""Values go on one axis only if they were measured alike: but for what a cell itself is, which its row tells."""

from dataclasses import replace

from vitok.metrics.names import METRICS
from vitok.metrics.protocol import Protocol
from vitok.study.study import Row


def measured(rows: list[Row]) -> tuple[str, ...]:
    """The metrics that any of these cells has, in the catalogue's order."""
    return tuple(name for name in METRICS if any(name in row for row in rows))


def comparable(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows without the metrics whose values may not be compared, and what there is to say of them."""
    problems, refused = list[str](), set[str]()
    for metric in measured(rows):
        having = [row for row in rows if metric in row]
        kinds: dict[str, tuple[Protocol | None, list[Row]]] = {}
        for row in having:
            text = row["protocols"].get(metric)
            protocol = Protocol.parse(text) if text else None
            kinds.setdefault(_without(protocol, row).digest if protocol else "", (protocol, []))[1].append(row)
        if len(kinds) > 1:
            refused.add(metric)
            (first, some), (second, others), *_ = kinds.values()
            what = first.differs(second) if first and second else "one of them is not known"
            problems.append(
                f"{metric} is left out: {len(some)} and {len(others)} of the cells were measured by different protocols ({what}); "
                f"measure them alike with `vitok eval RUN --metrics {metric}`"
            )
        elif len(having) < len(rows):
            problems.append(f"{metric} was measured in {len(having)} of {len(rows)} cells; the others get it with `vitok eval RUN`")
    return [{name: value for name, value in row.items() if name not in refused} for row in rows], problems


def _without(protocol: Protocol, row: Row) -> Protocol:
    """Without the size and the guidance of the cell itself: a study may well vary those."""
    size = 0 if protocol.size == row.get("size") else protocol.size
    settings = protocol.settings.replace(f"CFG {row['cfg']:g},", "CFG of the cell,") if "cfg" in row else protocol.settings
    return replace(protocol, size=size, settings=settings)


def described(rows: list[Row]) -> list[Protocol]:
    """Those of the metrics that are shown."""
    texts = [row["protocols"][metric] for metric in measured(rows) for row in rows if metric in row["protocols"]]
    found = [Protocol.parse(text) for text in texts]
    return list({(one.metric, one.digest): one for one in found}.values())
