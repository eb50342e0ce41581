"""The command line of a study file: run (the default), plan, status, report."""

import base64
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import tyro

from vitok.console.progress import Progress
from vitok.console.tables import show
from vitok.data.sample import MOTION, PHOTOS
from vitok.errors import VitokError, exit_on_error
from vitok.orchestration import preflight, request, session
from vitok.orchestration.plan import Plan, duration, plan
from vitok.orchestration.request import Asked, Options, Readable, Several, Told, ask, parsed
from vitok.report import report
from vitok.storage import mirror
from vitok.study.collection import Collection, Finding
from vitok.study.study import Study


@dataclass(frozen=True)
class Command:
    name: str
    help: str
    options: type
    call: Callable[[Any], None]


def serve(commands: tuple[Command, ...], doc: str) -> None:
    """Carry out what `sys.argv` asks for; errors are one line."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0] not in {one.name for one in commands} and arguments[0] not in ("-h", "--help")):
        arguments = [commands[0].name, *arguments]
    tyro.extras.subcommand_cli_from_dict(
        {one.name: _function(one) for one in commands},
        description=f"{doc}\n\nWithout a subcommand: {commands[0].name}. `SUBCOMMAND --help` shows its options.",
        args=arguments, config=(tyro.conf.OmitArgPrefixes,), sort_subcommands=False,
    )  # fmt: skip


def _function(command: Command) -> Callable[..., None]:
    kind = command.options

    def call(options: kind) -> None:  # pyright: ignore[reportInvalidTypeForm]
        exit_on_error(lambda: command.call(options))

    call.__doc__ = command.help
    return call


def main(study: Study[Any], doc: str) -> None:
    running = "Run what is not finished, then write the report. Stop it at any moment; the same command continues."
    serve(
        (
            Command("run", running, Options, lambda options: show_report(run(study, options))),
            Command(
                "plan", "Show every cell, its cost and the hours, before anything starts.", Readable, lambda options: _plan(study, options)
            ),
            Command("status", "Which cells are finished, running or open.", Readable, lambda options: _status(study, options)),
            Command("report", "Rebuild tables, fits, verdicts and figures from MLflow.", Readable, lambda options: _report(study, options)),
        ),
        doc,
    )


def run(
    study: Study[Any], options: Options, say: Progress | None = None, taking: Callable[[Asked], Asked] | None = None, within: str = ""
) -> dict[str, Any]:
    """Run what is not finished and write the report; its summary. `taking` takes a part of what is asked; `within` names the folder of
    who asked for it."""
    storage, say = session.storage(options.storage), say or Progress()
    folder = storage / within / study.name / "report"
    if study.computed:
        return report.computed(study, folder)
    offered: dict[str, float] | None = None
    if preflight.in_cluster():
        with session.core_silent():
            offered = session.connect(0, storage)
    asked = ask(study, options, offered)
    asked = taking(asked) if taking else asked
    say.line(f"{study.name} at scale {asked.choice.scale}: {asked.choice.reason}")
    if asked.choice.scale != "laptop" and asked.corpora.uri in (PHOTOS, MOTION):
        say.line(f"warning: {asked.corpora.uri} has {asked.corpora.counts[0]} samples; at this scale give a real corpus with --corpus")

    from vitok.orchestration import baselines
    from vitok.orchestration.sweep import Sweep, missing, run
    from vitok.tracking.client import Tracker, address

    tracker = Tracker(address(storage), storage, study.name)
    digests = [cell.digest for cell in asked.cells]
    done = tracker.finished(digests, options.any_version)
    sweep = Sweep(
        study, asked.scale, asked.choice.scale, asked.corpora, asked.cells, asked.key, asked.changes, storage, tracker, options.any_version
    )
    for line in _elsewhere(asked, tracker, done):
        say.line(line)
    if len(done) < len(asked.cells) or baselines.open_ones(sweep):
        pending = [cell for cell in asked.cells if cell.digest not in done]
        cells = [cell for level in missing(pending, asked.corpora.fingerprint, tracker) for cell in level]
        if cells:
            planned = plan(cells, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri, offered)
            say.line(f"{planned.summary()}; {len(done)} of {len(asked.cells)} are finished")
            for warning in planned.warnings:
                say.line(f"warning: {warning}")
        if offered is None:
            with session.core_silent():
                offered = session.connect(64, storage)
        with session.results_apart():
            run(sweep, offered, say)
            baselines.measure(sweep, offered, say)
    else:
        say.line(f"all {len(done)} cells are finished; nothing to run")
        tracker.close(tracker.sweep(asked.key, sweep.tags(), digests), finished=True)
    return report.write(study, tracker, asked.key, folder, options.any_version, partial=taking is not None)


def _elsewhere(asked: Asked, tracker: Any, done: dict[str, Any]) -> list[str]:
    """What is to be said of cells that another study, or another version of the code, has finished."""
    from vitok.tracking.rows import version
    from vitok.tracking.tags import STUDY

    lines: list[str] = []
    studies = sorted({name for run in done.values() if (name := run.data.tags.get(STUDY, "")) != asked.study.name})
    if studies:
        count = sum(run.data.tags.get(STUDY) != asked.study.name for run in done.values())
        lines.append(f"{count} of its {len(asked.cells)} cells were finished by {', '.join(studies)}: they are taken as they are")
    old = tracker.finished({cell.digest for cell in asked.cells} - done.keys(), any_version=True)
    if old:
        versions = ", ".join(sorted({version(run) or "an unknown version" for run in old.values()}))
        lines.append(f"{len(old)} cells were finished by vitok {versions}: they are run again (--any-version takes them as they are)")
    return lines


def _plan(study: Study[Any], options: Readable) -> None:
    if study.computed:
        print("[]" if options.json else f"{study.name} trains nothing: `run` computes it")
        return
    asked = ask(study, options)
    planned = plan(asked.planned, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri)
    if options.json:
        print(json.dumps(planned.json(), indent=2))
    else:
        _show_plan(study, planned)


def _status(study: Study[Any], options: Readable) -> None:
    if study.computed:
        print("[]" if options.json else f"{study.name} trains nothing: `run` computes it")
        return
    asked, storage = ask(study, options), session.storage(options.storage)
    from vitok.tracking.client import Tracker, address

    states = Tracker(address(storage), storage, study.name).states(cell.digest for cell in asked.cells)
    rows = [{"cell": cell.digest, "name": cell.label, **states.get(cell.digest, {"status": "open"})} for cell in asked.cells]
    count = {status: sum(row["status"] == status for row in rows) for status in sorted({row["status"] for row in rows})}
    if options.json:
        print(json.dumps({"study": study.name, "scale": asked.choice.scale, "count": count, "cells": rows}, indent=2))
        return
    columns = ("name", "status", *asked.scale.resources.metrics, "error", "study", "cell")
    show(f"{study.name} at scale {asked.choice.scale}: " + ", ".join(f"{n} {status}" for status, n in count.items()), columns, rows)


def _report(study: Study[Any], options: Readable) -> None:
    storage = session.storage(options.storage)
    folder = storage / study.name / "report"
    if study.computed:
        summary = report.computed(study, folder)
    else:
        choice = request.choose(study.scales, options.scale, None)
        from vitok.data.corpora.corpus import canonical
        from vitok.orchestration.request import key
        from vitok.tracking.client import Tracker, address

        tracker = Tracker(address(storage), storage, study.name)
        sweep = key(study.name, choice.scale, canonical(options.corpus or study.corpus), parsed(options.changes))
        if tracker.find_sweep(sweep) is None:
            _refuse(study, options, tracker)
        summary = report.write(study, tracker, sweep, folder, options.any_version)
    print(json.dumps(summary, indent=2)) if options.json else show_report(summary)


def _refuse(study: Study[Any], options: Readable, tracker: Any) -> None:
    """Raises `VitokError` for a report on nothing. Its cells may be those of a study that has been renamed."""
    from vitok.tracking.tags import STUDY

    done = tracker.finished(cell.digest for cell in ask(study, options).cells)
    if done:
        names = ", ".join(sorted({run.data.tags.get(STUDY, "?") for run in done.values()}))
        raise VitokError(
            f"{study.name} was never run, but {len(done)} of its cells were finished by {names}: "
            "`run` takes them as they are (also where the study was renamed)"
        )
    raise VitokError(f"{study.name}: no finished cell to report on; `run` it first")


def _show_plan(study: Study[Any], planned: Plan) -> None:
    columns = ("variant", "dit", "c", "L", "E", "compression", "params_m", "gmacs", "seed", "steps", "worker_gb", "training_flops", "time")
    rows = [row | {"time": duration(row["hours"])} for row in planned.rows]
    show(f"{study.name} at scale {planned.scale} ({planned.reason}), corpus {planned.corpus}", columns, rows)
    print(f"{planned.summary()}; {planned.workers} worker(s) a trial")
    for warning in planned.warnings:
        print(f"warning: {warning}")


def show_report(summary: dict[str, Any]) -> None:
    rows = [*summary["results"], *summary["beside"]]
    show(summary["study"] + (f" at scale {summary['scale']}" if summary["scale"] else ""), tuple(summary["columns"]), rows)
    if summary["paper"]:
        keys = tuple(dict.fromkeys(key for row in summary["paper"] for key in row))
        show("What the paper reports", keys, summary["paper"])
    for claim in summary["claims"]:
        print(f"{claim['verdict']}: {claim['claim']}. {claim['evidence']}.")
    for text in (*summary["advice"], *summary["problems"]):
        print(text)
    print(f"report: {summary['report']}")


def taken(finding: Finding, asked: Asked) -> Asked:
    mark = ", ".join(f"{column} is {' or '.join(map(str, values))}" for column, values in finding.only.items())
    return asked.taking(lambda cell: all(cell.described.get(column) in values for column, values in finding.only.items()), mark)


def serve_collection(collection: Collection, doc: str) -> None:
    running = "Run what is not finished of all parts, then write the page. Stop it at any moment; the same command continues."
    serve(
        (
            Command("run", running, Several, lambda options: show_collection(run_collection(collection, options))),
            Command(
                "plan",
                "Show what each part costs, before anything starts.",
                Told,
                lambda options: show_collection_plan(collection, options),
            ),
        ),
        doc,
    )


def plan_collection(collection: Collection, options: Several) -> dict[str, Any]:
    """What each part takes that no part before it has. Raises `UsageError`."""
    options, seen = _checked(collection, options), set[str]()
    rows: list[dict[str, Any]] = []
    clock: float | None = 0.0
    for finding in collection.findings:
        cells, fresh = set[str](), dict[str, float]()
        for study in finding.studies:
            asked = ask(study, options.of(study))
            asked = taken(finding, asked) if finding.only else asked
            planned = plan(asked.planned, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri)
            new = {row["cell"]: row["hours"] for row in planned.rows if row["cell"] not in seen}
            cells, fresh, seen = cells | {row["cell"] for row in planned.rows}, fresh | new, seen | new.keys()
            clock = clock + sum(new.values()) / planned.at_once if clock is not None and planned.at_once else None
        names = [study.name for study in finding.studies]
        rows.append({"part": finding.statement, "studies": names, "cells": len(cells), "new": len(fresh), "hours": sum(fresh.values())})
    hours = sum(row["hours"] for row in rows)
    return {"collection": collection.name, "parts": rows, "distinct": len(seen), "trial_hours": hours, "hours_by_the_clock": clock}


def _checked(collection: Collection, options: Several) -> Several:
    options.check(study for finding in collection.findings for study in finding.studies)
    return options if options.seeds else replace(options, seeds=collection.seeds)


def run_collection(collection: Collection, options: Several, say: Progress | None = None) -> dict[str, Any]:
    """Run what is not finished of every part, then write the page; its summary. A part that fails does not keep the others from
    running. Raises `VitokError` at the end if one did."""
    say, failed = say or Progress(), list[str]()
    options = _checked(collection, options)
    answers: list[dict[str, Any]] = []
    for number, finding in enumerate(collection.findings, start=1):
        say.line(f"[{say.clock()}] {collection.name} {number} of {len(collection.findings)}: {finding.statement}")
        try:
            found = [
                run(study, options.of(study), say, partial(taken, finding) if finding.only else None, collection.name)
                for study in finding.studies
            ]
            answers.append(_answer(finding, found))
        except VitokError as error:
            failed.append(f"{finding.statement}: {error}")
    summary = {"collection": collection.name, "question": collection.question, "answers": answers}
    if answers:
        summary["report"] = mirror.told(_write_collection(collection, session.storage(options.storage) / collection.name, summary))
    if failed:
        raise VitokError(f"{len(failed)} of {len(collection.findings)} studies did not come to an end: " + "; ".join(failed))
    return summary


def _answer(finding: Finding, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Supported if all claims are, not supported if one is not; else it is open."""
    claims = [claim for summary in summaries for claim in summary["claims"]]
    verdicts = {claim["verdict"] for claim in claims}
    verdict = "not supported" if "not supported" in verdicts else "supported" if verdicts == {"supported"} else "inconclusive"
    return {"statement": finding.statement, "verdict": verdict, "claims": claims, "summaries": summaries}


def _write_collection(collection: Collection, folder: Path, summary: dict[str, Any]) -> Path:
    reports = [mirror.here(one["report"]) for answer in summary["answers"] for one in answer["summaries"]]
    pictures = {str(path): base64.b64encode((path.parent / f"{path.parent.parent.name}.svg").read_bytes()).decode() for path in reports}
    page = report.environment().get_template("collection.html").render(collection=collection, answers=summary["answers"], pictures=pictures)
    report.keep(folder, {"index.html": page.encode(), f"{collection.name}.json": json.dumps(summary, indent=2).encode()})
    return folder / "index.html"


def show_collection(summary: dict[str, Any]) -> None:
    for answer in summary["answers"]:
        print(f"{answer['verdict'].upper()}: {answer['statement']}")
        for claim in answer["claims"]:
            print(f"    {claim['verdict']}: {claim['claim']}. {claim['evidence']}.")
    print(f"report: {summary['report']}")


def show_collection_plan(collection: Collection, options: Told) -> None:
    found = plan_collection(collection, options)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    rows = [row | {"studies": ", ".join(row["studies"]), "time": duration(row["hours"])} for row in found["parts"]]
    show(collection.name, ("part", "studies", "cells", "new", "time"), rows)
    clock = "" if found["hours_by_the_clock"] is None else f", {duration(found['hours_by_the_clock'])} by the clock"
    print(f"{found['distinct']} distinct cells: about {duration(found['trial_hours'])} of trials{clock}")
