"""Values go on one axis only if they were measured alike."""

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
            kinds.setdefault(protocol.digest if protocol else "", (protocol, []))[1].append(row)
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


def described(rows: list[Row]) -> dict[str, Protocol]:
    """The protocol of each metric that is shown."""
    texts = {metric: next((row["protocols"][metric] for row in rows if metric in row["protocols"]), None) for metric in measured(rows)}
    return {metric: Protocol.parse(text) for metric, text in texts.items() if text}
