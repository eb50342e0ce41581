"""The command line of a file that holds a study or a collection: run (the default), plan, status, report.

From here a study becomes runs: `run_study` resolves the request, `orchestration/sweep.py` schedules its cells, `report` answers it.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import tyro

from vitok.console.tables import show
from vitok.data.sample import MOTION, PHOTOS
from vitok.errors import VitokError, exit_on_error
from vitok.orchestration import request
from vitok.orchestration.capacity import require_machine
from vitok.orchestration.plan import Plan, duration, plan
from vitok.orchestration.request import (
    CollectionJsonOptions,
    CollectionOptions,
    Request,
    StudyJsonOptions,
    StudyOptions,
    parse_changes,
    resolve,
)
from vitok.orchestration.session import Session, results_apart
from vitok.study.collection import Collection
from vitok.study.study import Study


@dataclass(frozen=True)
class Command:
    """A subcommand of a study file."""

    name: str
    help: str
    options: type
    call: Callable[[Any], None]


def main(study: Study[Any] | Collection, doc: str | None = None) -> None:
    """Serve the command line of the file that holds this study or collection; `doc` is the file's docstring."""
    commands = _collection_commands(study) if isinstance(study, Collection) else _study_commands(study)
    serve(commands, doc or study.question)


def serve(commands: tuple[Command, ...], doc: str) -> None:
    """Carry out what `sys.argv` asks for: a subcommand, or the first one where none is named. Errors are one line."""
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


def _study_commands(study: Study[Any]) -> tuple[Command, ...]:
    running = "Run what is not finished, then write the report. Stop it at any moment; the same command continues."
    planning = "Show every cell, its cost and the hours, before anything starts."
    return (
        Command("run", running, StudyOptions, lambda options: show_report(run_study(study, options, Session(options.storage)))),
        Command("plan", planning, StudyJsonOptions, lambda options: _plan(study, options)),
        Command("status", "Which cells are finished, running or open.", StudyJsonOptions, lambda options: _status(study, options)),
        Command(
            "report", "Rebuild tables, fits, verdicts and figures from MLflow.", StudyJsonOptions, lambda options: _report(study, options)
        ),
    )


def _collection_commands(collection: Collection) -> tuple[Command, ...]:
    running = "Run what is not finished of all parts, then write the page. Stop it at any moment; the same command continues."

    def run(options: CollectionOptions) -> None:
        show_collection(run_collection(collection, options, Session(options.storage)))

    return (
        Command("run", running, CollectionOptions, run),
        Command(
            "plan", "Show what each part costs, before anything starts.", CollectionJsonOptions,
            lambda options: _plan_collection(collection, options),
        ),
    )  # fmt: skip


def run_study(
    study: Study[Any], options: StudyOptions, session: Session, only: Mapping[str, tuple[Any, ...]] | None = None, within: str = ""
) -> dict[str, Any]:
    """Run what is not finished of a study and write its report. Return the report's summary.

    `only` restricts the cells to these values of these columns; `within` names the folder of the collection that asks. Raises
    `UsageError` before anything is started, `VitokError` for cells that failed.
    """
    from vitok.report import report

    folder = session.storage.report(study.name, within)
    if study.computed:
        return report.write_computed(study, folder)
    asked = resolve(study, options, session.offered)
    asked = asked.only(only) if only else asked
    session.say(f"{study.name} at scale {asked.choice.scale}: {asked.choice.reason}")
    if asked.choice.scale != "laptop" and asked.corpora.uri in (PHOTOS, MOTION):
        session.say(f"warning: {asked.corpora.uri} has {asked.corpora.counts[0]} samples; at this scale give a real corpus with --corpus")
    tracker = session.tracker(study.name)
    _run_missing(asked, session)
    return report.write(study, tracker, asked.key, folder, options.any_version, partial=bool(only))


def _run_missing(asked: Request, session: Session) -> None:
    """Run the cells and measure the baselines that are not there yet; tell the cost before."""
    from vitok.orchestration import baselines, sweep

    tracker, digests = session.tracker(asked.study.name), [cell.digest for cell in asked.cells]
    done = tracker.finished(digests, asked.any_version)
    for line in _elsewhere(asked, tracker, done):
        session.say(line)
    if len(done) == len(asked.cells) and not baselines.missing(asked, session):
        session.say(f"all {len(done)} cells are finished; nothing to run")
        tracker.close(tracker.sweep(asked.key, asked.tags(), digests), finished=True)
        return
    pending = [cell for cell in asked.cells if cell.digest not in done]
    cells = [cell for level in sweep.missing(pending, asked.corpora.fingerprint, tracker) for cell in level]
    if cells:
        planned = plan(asked, cells, session.offered)
        session.say(f"{planned.summary()}; {len(done)} of {len(asked.cells)} are finished")
        for warning in planned.warnings:
            session.say(f"warning: {warning}")
    own = [asked.scale.of(cell.recipe) for cell in cells]
    require_machine((cell.recipe, resources, resources.need(cell.recipe)) for cell, resources in zip(cells, own, strict=True))
    with results_apart():
        sweep.run(asked, session)
        baselines.measure(asked, session)


def _elsewhere(asked: Request, tracker: Any, done: Mapping[str, Any]) -> list[str]:
    """Tell of cells that another study, or another version of vitok, has finished."""
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


def _plan(study: Study[Any], options: StudyJsonOptions) -> None:
    if study.computed:
        print("[]" if options.json else f"{study.name} trains nothing: `run` computes it")
        return
    planned = plan(resolve(study, options))
    if options.json:
        print(json.dumps(planned.json(), indent=2))
    else:
        _show_plan(study, planned)


def _status(study: Study[Any], options: StudyJsonOptions) -> None:
    if study.computed:
        print("[]" if options.json else f"{study.name} trains nothing: `run` computes it")
        return
    asked, session = resolve(study, options), Session(options.storage)
    states = session.tracker(study.name).states(cell.digest for cell in asked.cells)
    rows = [{"cell": cell.digest, "name": cell.label, **states.get(cell.digest, {"status": "open"})} for cell in asked.cells]
    count = {status: sum(row["status"] == status for row in rows) for status in sorted({row["status"] for row in rows})}
    if options.json:
        print(json.dumps({"study": study.name, "scale": asked.choice.scale, "count": count, "cells": rows}, indent=2))
        return
    columns = ("name", "status", *asked.scale.resources.metrics, "error", "study", "cell")
    show(f"{study.name} at scale {asked.choice.scale}: " + ", ".join(f"{n} {status}" for status, n in count.items()), columns, rows)


def _report(study: Study[Any], options: StudyJsonOptions) -> None:
    from vitok.data.corpora.corpus import canonical
    from vitok.report import report

    session = Session(options.storage)
    folder = session.storage.report(study.name)
    if study.computed:
        summary = report.write_computed(study, folder)
    else:
        choice, tracker = request.choose(study.scales, options.scale, None), session.tracker(study.name)
        changes = parse_changes(options.changes)
        key = request.sweep_key(study.name, choice.scale, canonical(options.corpus or study.corpus), changes)
        if tracker.find_sweep(key) is None:
            _refuse_report(study, options, tracker)
        summary = report.write(study, tracker, key, folder, options.any_version)
    print(json.dumps(summary, indent=2)) if options.json else show_report(summary)


def _refuse_report(study: Study[Any], options: StudyOptions, tracker: Any) -> None:
    """Raise `VitokError` for a report on nothing. Its cells may be those of a study that has been renamed."""
    from vitok.tracking.tags import STUDY

    done = tracker.finished(cell.digest for cell in resolve(study, options).cells)
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
    """Print a report's table, the paper's numbers, verdicts and advice."""
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


def run_collection(collection: Collection, options: CollectionOptions, session: Session) -> dict[str, Any]:
    """Run what is not finished of every finding, then write the page. Return its summary. A study that fails does not keep the others from
    running: `VitokError` is raised at the end."""
    from vitok.report import report

    console, failed = session.console, list[str]()
    options = _with_seeds(collection, options)
    answers: list[dict[str, Any]] = []
    for number, finding in enumerate(collection.findings, start=1):
        session.say(f"[{console.clock()}] {collection.name} {number} of {len(collection.findings)}: {finding.statement}")
        try:
            found = [run_study(study, options.of(study), session, finding.only, collection.name) for study in finding.studies]
            answers.append(report.answer(finding, found))
        except VitokError as error:
            failed.append(f"{finding.statement}: {error}")
    folder = session.storage.collection(collection.name)
    summary = report.write_collection(collection, answers, folder) if answers else {}
    if failed:
        raise VitokError(f"{len(failed)} of {len(collection.findings)} studies did not come to an end: " + "; ".join(failed))
    return summary


def _with_seeds(collection: Collection, options: CollectionOptions) -> CollectionOptions:
    """Return the options, with the collection's own seeds where none are given. Raises `UsageError` for a scale that no study has."""
    options.check(study for finding in collection.findings for study in finding.studies)
    return options if options.seeds else replace(options, seeds=collection.seeds)


def plan_collection(collection: Collection, options: CollectionOptions) -> dict[str, Any]:
    """Plan a collection: of each finding the cells that no finding before it has. Raises `UsageError`."""
    options, seen = _with_seeds(collection, options), set[str]()
    rows: list[dict[str, Any]] = []
    clock: float | None = 0.0
    for finding in collection.findings:
        cells, fresh = set[str](), dict[str, float]()
        for study in finding.studies:
            asked = resolve(study, options.of(study))
            planned = plan(asked.only(finding.only) if finding.only else asked)
            new = {row["cell"]: row["hours"] for row in planned.rows if row["cell"] not in seen}
            cells, fresh, seen = cells | {row["cell"] for row in planned.rows}, fresh | new, seen | new.keys()
            clock = clock + sum(new.values()) / planned.at_once if clock is not None and planned.at_once else None
        names = [study.name for study in finding.studies]
        rows.append({"part": finding.statement, "studies": names, "cells": len(cells), "new": len(fresh), "hours": sum(fresh.values())})
    hours = sum(row["hours"] for row in rows)
    return {"collection": collection.name, "parts": rows, "distinct": len(seen), "trial_hours": hours, "hours_by_the_clock": clock}


def _plan_collection(collection: Collection, options: CollectionJsonOptions) -> None:
    found = plan_collection(collection, options)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    rows = [row | {"studies": ", ".join(row["studies"]), "time": duration(row["hours"])} for row in found["parts"]]
    show(collection.name, ("part", "studies", "cells", "new", "time"), rows)
    clock = "" if found["hours_by_the_clock"] is None else f", {duration(found['hours_by_the_clock'])} by the clock"
    print(f"{found['distinct']} distinct cells: about {duration(found['trial_hours'])} of trials{clock}")


def show_collection(summary: dict[str, Any]) -> None:
    """Print the verdict on each finding, with those on its claims."""
    for answer in summary["answers"]:
        print(f"{answer['verdict'].upper()}: {answer['statement']}")
        for claim in answer["claims"]:
            print(f"    {claim['verdict']}: {claim['claim']}. {claim['evidence']}.")
    print(f"report: {summary['report']}")
