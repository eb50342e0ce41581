"""The command line of a study file: run (the default), plan, status, report."""

import json
from collections.abc import Callable
from typing import Any

from vitok.data.sample import MOTION, PHOTOS
from vitok.errors import VitokError
from vitok.study import place
from vitok.study.asked import Asked, Options, Readable, ask, parsed
from vitok.study.commands import Command, serve
from vitok.study.plan import Plan, duration, plan
from vitok.study.progress import Progress
from vitok.study.study import Study


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
    from vitok.study import report

    storage, say = place.storage(options.storage), say or Progress()
    folder = storage / within / study.name / "report"
    if study.computed:
        return report.computed(study, folder)
    offered: dict[str, float] | None = None
    if place.in_cluster():
        with place.core_silent():
            offered = place.connect(0, storage)
    asked = ask(study, options, offered)
    asked = taking(asked) if taking else asked
    say.line(f"{study.name} at scale {asked.choice.scale}: {asked.choice.reason}")
    if asked.choice.scale != "laptop" and asked.corpora.uri in (PHOTOS, MOTION):
        say.line(f"warning: {asked.corpora.uri} has {asked.corpora.counts[0]} samples; at this scale give a real corpus with --corpus")

    from vitok.study import beside
    from vitok.study.run import Sweep, missing, run
    from vitok.study.tracking import Tracker, address

    tracker = Tracker(address(storage), storage, study.name)
    digests = [cell.digest for cell in asked.cells]
    done = tracker.finished(digests, options.any_version)
    sweep = Sweep(
        study, asked.scale, asked.choice.scale, asked.corpora, asked.cells, asked.key, asked.changes, storage, tracker, options.any_version
    )
    for line in _elsewhere(asked, tracker, done):
        say.line(line)
    if len(done) < len(asked.cells) or beside.open_ones(sweep):
        pending = [cell for cell in asked.cells if cell.digest not in done]
        cells = [cell for level in missing(pending, asked.corpora.fingerprint, tracker) for cell in level]
        if cells:
            planned = plan(cells, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri, offered)
            say.line(f"{planned.summary()}; {len(done)} of {len(asked.cells)} are finished")
            for warning in planned.warnings:
                say.line(f"warning: {warning}")
        if offered is None:
            with place.core_silent():
                offered = place.connect(64, storage)
        with place.results_apart():
            run(sweep, offered, say)
            beside.measure(sweep, offered, say)
    else:
        say.line(f"all {len(done)} cells are finished; nothing to run")
        tracker.close(tracker.sweep(asked.key, sweep.tags(), digests), finished=True)
    return report.write(study, tracker, asked.key, folder, options.any_version, partial=taking is not None)


def _elsewhere(asked: Asked, tracker: Any, done: dict[str, Any]) -> list[str]:
    """What is to be said of cells that another study, or another version of the code, has finished."""
    from vitok.study.tracking import STUDY, version

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
    asked, storage = ask(study, options), place.storage(options.storage)
    from vitok.study.tracking import Tracker, address

    states = Tracker(address(storage), storage, study.name).states(cell.digest for cell in asked.cells)
    rows = [{"cell": cell.digest, "name": cell.label, **states.get(cell.digest, {"status": "open"})} for cell in asked.cells]
    count = {status: sum(row["status"] == status for row in rows) for status in sorted({row["status"] for row in rows})}
    if options.json:
        print(json.dumps({"study": study.name, "scale": asked.choice.scale, "count": count, "cells": rows}, indent=2))
        return
    from vitok.study.tables import show

    columns = ("name", "status", *asked.scale.resources.metrics, "error", "study", "cell")
    show(f"{study.name} at scale {asked.choice.scale}: " + ", ".join(f"{n} {status}" for status, n in count.items()), columns, rows)


def _report(study: Study[Any], options: Readable) -> None:
    from vitok.study import report

    storage = place.storage(options.storage)
    folder = storage / study.name / "report"
    if study.computed:
        summary = report.computed(study, folder)
    else:
        choice = place.choose(study.scales, options.scale, None)
        from vitok.data.corpora import canonical
        from vitok.study.identity import key
        from vitok.study.tracking import Tracker, address

        tracker = Tracker(address(storage), storage, study.name)
        sweep = key(study.name, choice.scale, canonical(options.corpus or study.corpus), parsed(options.changes))
        if tracker.find_sweep(sweep) is None:
            _refuse(study, options, tracker)
        summary = report.write(study, tracker, sweep, folder, options.any_version)
    print(json.dumps(summary, indent=2)) if options.json else show_report(summary)


def _refuse(study: Study[Any], options: Readable, tracker: Any) -> None:
    """Raises `VitokError` for a report on nothing. Its cells may be those of a study that has been renamed."""
    from vitok.study.tracking import STUDY

    done = tracker.finished(cell.digest for cell in ask(study, options).cells)
    if done:
        names = ", ".join(sorted({run.data.tags.get(STUDY, "?") for run in done.values()}))
        raise VitokError(
            f"{study.name} was never run, but {len(done)} of its cells were finished by {names}: "
            "`run` takes them as they are (also where the study was renamed)"
        )
    raise VitokError(f"{study.name}: no finished cell to report on; `run` it first")


def _show_plan(study: Study[Any], planned: Plan) -> None:
    from vitok.study.tables import show

    columns = ("variant", "dit", "c", "L", "E", "compression", "params_m", "gmacs", "seed", "steps", "worker_gb", "training_flops", "time")
    rows = [row | {"time": duration(row["hours"])} for row in planned.rows]
    show(f"{study.name} at scale {planned.scale} ({planned.reason}), corpus {planned.corpus}", columns, rows)
    print(f"{planned.summary()}; {planned.workers} worker(s) a trial")
    for warning in planned.warnings:
        print(f"warning: {warning}")


def show_report(summary: dict[str, Any]) -> None:
    from vitok.study.tables import show

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
