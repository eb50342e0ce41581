"""The report, from MLflow alone: tables, fits, verdicts, figures, the paper's numbers beside them, and one page that holds them all."""

import base64
import csv
import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from vitok.analysis import pareto
from vitok.analysis.claims.optimum import format_floats
from vitok.analysis.model_selection import compare_fits
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.registry import METRICS
from vitok.report import paper
from vitok.report.figures.pareto import pareto_fronts
from vitok.report.results import StudyResults, collect_results, is_generator_row, measured_metrics, row_protocols, table_columns
from vitok.storage import mirror
from vitok.storage.layout import StoredFolder
from vitok.study.collection import Collection, Finding
from vitok.study.study import Study
from vitok.tracking.tags import SCALE

if TYPE_CHECKING:
    from vitok.tracking.client import Tracker

PAGE = "index.html"
IN_THE_LABEL = ("variant", "dit", "stage", "p", "q", "c", "seed", "cfg")  # which a terminal's table need not say again


def write(
    study: Study[Any], tracker: "Tracker", sweep: str, folder: StoredFolder, any_version: bool = False, partial: bool = False
) -> dict[str, Any]:
    """Write results.csv, fits.json, claims.json, the figure (PNG, SVG) and index.html. Return the summary that `--json` prints.

    `sweep` is the sweep's key; `partial`: of a part of the study's cells, on which claims about what others measure are not judged.
    Raises `VitokError` if none of its cells is finished.
    """
    found = collect_results(study.name, tracker, sweep, any_version)
    metrics = measured_metrics(found.rows)
    if not metrics:
        raise VitokError(f"{study.name}: nothing is left to report: {'; '.join(found.problems) or 'no metric was measured'}")
    shown = tuple(name for name in metrics if name in study.measures) or metrics
    fits, comparisons, problems = _fitted(study, found.rows, shown)
    verdicts = [claim(found.rows) for claim in study.claims if not (partial and claim.lacking(metrics))]
    pairs, advice, more = _fronts(study, found.rows)
    figure = study.figure([*found.rows, *found.beside], shown, fits)
    paper.mark_figure(figure, paper.reported_values(study.name), {row.get("size") for row in found.rows})
    pictures = _pictures(study.name, figure)
    if pairs:
        pictures["fronts.svg"] = _saved(pareto_fronts(found.rows, pairs), "svg")
    names = (*table_columns(found.rows), *metrics)
    files = {
        "results.csv": _csv([*found.rows, *found.beside], metrics).encode(),
        "fits.json": json.dumps({name: fit.json() for name, fit in fits.items()}, indent=2).encode(),
        "claims.json": json.dumps([verdict.json() for verdict in verdicts], indent=2).encode(),
    } | pictures
    summary = {
        "study": study.name, "question": study.question, "scale": found.tags[SCALE], "cells_finished": len(found.rows),
        "cells_planned": found.planned, "columns": ["label", *(name for name in names if name not in IN_THE_LABEL)],
        "fits": {name: fit.json() for name, fit in fits.items()}, "comparisons": comparisons,
        "claims": [verdict.json() for verdict in verdicts], "advice": advice, "problems": [*found.problems, *problems, *more],
        "results": [_told(row, names) for row in found.rows], "others": [_told(row, names) for row in found.others],
        "beside": [_told(row, names) for row in found.beside], "paper": paper.table(paper.reported_values(study.name)),
        "report": f"{folder.address}/{PAGE}",
    }  # fmt: skip
    _write_all(folder, files | {PAGE: render_page(study, found, metrics, summary, pictures).encode()})
    return summary


def write_computed(study: Study[Any], folder: StoredFolder) -> dict[str, Any]:
    """Write the figure and index.html of a study that trains nothing. Return the summary that `--json` prints."""
    assert study.computed is not None
    rows, reported = study.computed(), paper.reported_values(study.name)
    verdicts = [claim(rows) for claim in study.claims]
    pictures = _pictures(study.name, study.figure(rows, (), {}))
    names = list(rows[0])
    summary = {
        "study": study.name, "question": study.question, "scale": "", "cells_finished": len(rows), "cells_planned": len(rows),
        "columns": names, "fits": {}, "comparisons": [], "claims": [verdict.json() for verdict in verdicts], "advice": [], "problems": [],
        "results": rows, "others": [], "beside": [], "paper": paper.table(reported), "report": f"{folder.address}/{PAGE}",
    }  # fmt: skip
    gathered = StudyResults({}, rows, [], [], len(rows), [])
    _write_all(folder, pictures | {PAGE: render_page(study, gathered, (), summary, pictures).encode()})
    return summary


def _fitted(study: Study[Any], rows: list[Row], metrics: tuple[str, ...]) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return the fits, which kind of fit predicts best, and what could not be fitted."""
    fits: dict[str, Any] = {}
    comparisons, problems = list[str](), list[str]()
    for metric in metrics if study.fit else ():
        assert study.fit is not None
        try:
            fits[metric] = study.fit(rows, metric)
            comparisons.append(compare_fits(rows, metric).sentence)
        except VitokError as error:
            problems.append(str(error))
    return fits, comparisons, problems


def _fronts(study: Study[Any], rows: list[Row]) -> tuple[tuple[tuple[str, str], ...], list[str], list[str]]:
    """Return the pairs that there is something to say of, what it is, and what there is not."""
    pairs, advice, problems = list[tuple[str, str]](), list[str](), list[str]()
    for pair in study.fronts:
        if set(pair) & (METRICS.keys() - set(measured_metrics(rows))):
            continue  # another has what this scale measures in its place
        try:
            advice += pareto.advice(rows, *pair)
            pairs.append(pair)
        except VitokError as error:
            problems.append(str(error))
    return tuple(pairs), advice, problems


def _told(row: Row, names: tuple[str, ...]) -> Row:
    return {"label": row["label"], **{name: row.get(name) for name in names}}


def _csv(rows: list[Row], metrics: tuple[str, ...]) -> str:
    out = io.StringIO()
    names = ("label", *table_columns(rows), *metrics, "images", "rejected", "train_seconds", "version", "commit", "cell", "run_id")
    writer = csv.DictWriter(out, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _pictures(name: str, figure: Any) -> dict[str, bytes]:
    from matplotlib import rcParams

    rcParams["svg.hashsalt"] = name  # the same cells give the same file, byte by byte
    return {f"{name}.{kind}": _saved(figure, kind) for kind in ("png", "svg")}


def _saved(figure: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return buffer.getvalue()


def _write_all(folder: StoredFolder, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        folder.write(name, content)


def answer(finding: Finding, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the verdict on a finding: supported if all claims of its studies are, not supported if one is not; else inconclusive."""
    claims = [claim for summary in summaries for claim in summary["claims"]]
    verdicts = {claim["verdict"] for claim in claims}
    verdict = "not supported" if "not supported" in verdicts else "supported" if verdicts == {"supported"} else "inconclusive"
    return {"statement": finding.statement, "verdict": verdict, "claims": claims, "summaries": summaries}


def write_collection(collection: Collection, answers: list[dict[str, Any]], folder: StoredFolder) -> dict[str, Any]:
    """Write the page of a collection, with the figures of its studies, and NAME.json. Return the summary."""
    summary = {"collection": collection.name, "question": collection.question, "answers": answers}
    reports = [mirror.local_path(one["report"]) for found in answers for one in found["summaries"]]
    pictures = {str(path): base64.b64encode((path.parent / f"{path.parent.parent.name}.svg").read_bytes()).decode() for path in reports}
    page = environment().get_template("collection.html").render(collection=collection, answers=answers, pictures=pictures)
    _write_all(folder, {PAGE: page.encode(), f"{collection.name}.json": json.dumps(summary, indent=2).encode()})
    return summary | {"report": f"{folder.address}/{PAGE}"}


def render_page(
    study: Study[Any], found: StudyResults, metrics: tuple[str, ...], summary: dict[str, Any], pictures: dict[str, bytes]
) -> str:
    """Render the page of a report, which needs nothing beside it."""
    shown = [(row, base64.b64encode(row["picture"]).decode()) for row in found.rows if row.get("picture")]
    commits = Counter(row["commit"] for row in found.rows if row.get("commit"))
    svgs = [base64.b64encode(content).decode() for name, content in pictures.items() if name.endswith(".svg")]
    return (
        environment()
        .get_template("report.html")
        .render(
            study=study,
            tags=found.tags,
            rows=found.rows,
            others=found.others,
            beside=found.beside,
            metrics=metrics,
            protocols=row_protocols(found.rows) if metrics else [],
            columns=table_columns(found.rows),
            summary=summary,
            svgs=svgs,
            pictures=shown,
            rejected=max(row.get("rejected", 0) for row in found.rows),
            commits=commits.most_common(),
            generated=is_generator_row,
            whole=format_floats,
        )
    )


def environment() -> Any:
    """Return the environment of the report's templates: everything in them is escaped."""
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader("vitok.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
