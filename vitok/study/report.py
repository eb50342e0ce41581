"""The report, from MLflow alone: tables, fits, verdicts, figures and one page that holds them all."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

from vitok.errors import VitokError
from vitok.study.optimum import whole
from vitok.study.protocols import comparable, described, measured
from vitok.study.study import Row, Study
from vitok.study.tracking import CELLS, CORPUS, SCALE, Tracker

COLUMNS = ("variant", "dit", "size", "frames", "p", "q", "c", "L", "E", "compression", "params_m", "gmacs", "seed", "cfg")


def write(study: Study, tracker: Tracker, sweep: str, folder: Path) -> dict[str, Any]:
    """Write results.csv, fits.json, claims.json, the figure (PNG, SVG) and index.html. Returns what `--json` prints.

    `sweep` is the sweep's key. Raises `VitokError` if none of its cells is finished.
    """
    parent = tracker.find_sweep(sweep)
    wanted = parent.data.tags[CELLS].split() if parent else []
    runs = tracker.finished(wanted)
    if parent is None or not runs:
        raise VitokError(f"{study.name}: no finished cell to report on; `run` it first")
    rows = sorted(tracker.rows(runs.values()), key=lambda row: (row["E"], row["p"], row["seed"]))
    for row in rows:
        content = None if generated(row) else tracker.artifact(row["run_id"], "per_image.json")
        row["per_image"] = json.loads(content) if content else {}
    rows, problems = comparable(rows)
    metrics, fits = measured(rows), {}
    if not metrics:
        raise VitokError(f"{study.name}: nothing is left to report: {'; '.join(problems) or 'no metric was measured'}")
    for metric in metrics:
        if study.fit is None:
            break
        try:
            fits[metric] = study.fit(rows, metric)
        except VitokError as error:
            problems.append(str(error))
    verdicts = [claim(rows) for claim in study.claims] if fits else []

    from matplotlib import rcParams

    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "results.csv", _csv(rows, metrics).encode())
    _replace(folder / "fits.json", json.dumps({name: fit.json() for name, fit in fits.items()}, indent=2).encode())
    _replace(folder / "claims.json", json.dumps([verdict.json() for verdict in verdicts], indent=2).encode())
    pictures: dict[str, bytes] = {}
    figure = study.figure(rows, metrics, fits)
    rcParams["svg.hashsalt"] = study.name  # the same cells give the same file, byte by byte
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {"Software": None})
        pictures[kind] = buffer.getvalue()
        _replace(folder / f"{study.name}.{kind}", pictures[kind])
    summary = {
        "study": study.name, "question": study.question, "scale": parent.data.tags[SCALE], "cells_finished": len(rows),
        "cells_planned": len(wanted), "fits": {name: fit.json() for name, fit in fits.items()},
        "claims": [verdict.json() for verdict in verdicts], "problems": problems,
        "results": [{name: row.get(name) for name in (*columns(rows), *metrics)} for row in rows],
        "report": str(folder / "index.html"),
    }  # fmt: skip
    _replace(folder / "index.html", _page(study, tracker, parent.data.tags, rows, metrics, summary, pictures["svg"]).encode())
    return summary


def columns(rows: list[Row]) -> tuple[str, ...]:
    """Those that any of the rows has; of sizes and frames, which every table would have, where they are not all the same."""
    known = [name for name in COLUMNS if any(name in row for row in rows)]
    return tuple(name for name in known if name not in ("size", "frames") or len({row.get(name) for row in rows}) > 1)


def generated(row: Row) -> bool:
    """Whether it is a generator's cell. It has other artifacts, and to ask MLflow for one that is not there takes its retries."""
    return "dit" in row


def _csv(rows: list[Row], metrics: tuple[str, ...]) -> str:
    out = io.StringIO()
    names = (*columns(rows), *metrics, "images", "rejected", "train_seconds", "cell", "run_id")
    writer = csv.DictWriter(out, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _page(
    study: Study, tracker: Tracker, tags: dict[str, str], rows: list[Row], metrics: tuple[str, ...], summary: dict[str, Any], svg: bytes
) -> str:
    from jinja2 import Environment, PackageLoader

    first = min(row["seed"] for row in rows)
    pictures = [
        (row, base64.b64encode(content).decode())
        for row in rows
        if row["seed"] == first and (content := tracker.artifact(row["run_id"], "samples.png" if generated(row) else "reconstructions.png"))
    ]
    environment = Environment(loader=PackageLoader("vitok.study"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("report.html").render(
        study=study, tags=tags, corpus=tags[CORPUS], rows=rows, metrics=metrics, protocols=described(rows), columns=columns(rows),
        summary=summary, svg=base64.b64encode(svg).decode(), pictures=pictures, rejected=max(row.get("rejected", 0) for row in rows),
        generated=generated, whole=whole,
    )  # fmt: skip


def _replace(path: Path, content: bytes) -> None:
    """A reader sees the old file or the new one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
