"""The command line of a study file: run (the default), plan, status, report."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitok.data.sample import MOTION, PHOTOS
from vitok.errors import UsageError, exit_on_error
from vitok.study import grid, place
from vitok.study.plan import Plan, duration, plan
from vitok.study.study import Scale, Study


@dataclass(frozen=True)
class Options:
    scale: str | None = None
    """laptop, single-gpu or paper. Without it: what the connected cluster or this machine can carry."""
    corpus: str | None = None
    """sample-photos and sample-motion (embedded), a folder, a store's address. Default: the study's, an embedded one."""
    storage: Path | None = None
    """Where everything is kept. Default: VITOK_STORAGE, or ./runs."""
    seeds: tuple[int, ...] = (0,)
    """One run of every cell for each of these seeds."""
    changes: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="KEY=VALUE")] = ()
    """Change a number of the recipe (steps=100, loss.kl=1e-4), of the resources (resources.workers=2) or an axis of the
    grid (grid.tokenizer.channels=4,16). May be given several times."""


@dataclass(frozen=True)
class Readable(Options):
    json: bool = field(default=False)
    """Print JSON for programs."""


def main(study: Study, doc: str) -> None:
    commands = {
        "run": lambda options: _run(study, options),
        "plan": lambda options: _plan(study, options),
        "status": lambda options: _status(study, options),
        "report": lambda options: _report(study, options),
    }
    helps = {
        "run": "Run what is not finished, then write the report. Stop it at any moment; the same command continues.",
        "plan": "Show every cell, its cost and the hours, before anything starts.",
        "status": "Which cells are finished, running or open.",
        "report": "Rebuild tables, fits, verdicts and figures from MLflow.",
    }
    arguments = sys.argv[1:]
    if not arguments or (arguments[0] not in commands and arguments[0] not in ("-h", "--help")):
        arguments = ["run", *arguments]

    def command(name: str) -> Any:
        kind = Options if name == "run" else Readable

        def call(options: kind) -> None:  # pyright: ignore[reportInvalidTypeForm]
            exit_on_error(lambda: commands[name](options))

        call.__doc__ = helps[name]
        return call

    tyro.extras.subcommand_cli_from_dict(
        {name: command(name) for name in commands},
        description=doc + "\n\nWithout a subcommand: run. `SUBCOMMAND --help` shows its options.",
        args=arguments, config=(tyro.conf.OmitArgPrefixes,), sort_subcommands=False,
    )  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """A command's options, checked."""

    scale: Scale
    choice: place.Choice
    corpora: Any
    cells: list[grid.Cell]
    key: str
    changes: dict[str, str]

    @property
    def planned(self) -> list[grid.Cell]:
        """With the tokenizers that cells of generators need, unless they are there."""
        return [*grid.tokenizers(self.cells, self.corpora.fingerprint), *self.cells]


def _ask(study: Study, options: Options, offered: dict[str, float] | None = None) -> Asked:
    changes = parsed(options.changes)
    if not options.seeds or len(set(options.seeds)) < len(options.seeds):
        raise UsageError(f"--seeds {' '.join(map(str, options.seeds))}: give one or more different seeds")
    choice = place.choose(study.scales, options.scale, offered)
    scale = grid.apply(study.scales[choice.scale], changes)
    from vitok.data.corpora import open_corpora
    from vitok.study.identity import key

    corpora = open_corpora(options.corpus or study.corpus)
    cells = grid.cells(scale, options.seeds, corpora.fingerprint, grid.classes(corpora))

    return Asked(scale, choice, corpora, cells, key(study.name, choice.scale, corpora.uri, changes), changes)


def parsed(texts: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE, each of `--set`. Raises `UsageError`."""
    changes: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: it takes KEY=VALUE, as in --set steps=100")
        changes[name] = value
    return changes


def _plan(study: Study, options: Readable) -> None:
    asked = _ask(study, options)
    planned = plan(asked.planned, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri)
    if options.json:
        print(json.dumps(planned.json(), indent=2))
    else:
        _show_plan(study, planned)


def _run(study: Study, options: Options) -> None:
    from vitok.study.progress import Progress

    storage, say = place.storage(options.storage), Progress()
    offered: dict[str, float] | None = None
    if place.in_cluster():
        with place.core_silent():
            offered = place.connect(slots=0)
    asked = _ask(study, options, offered)
    say.line(f"scale {asked.choice.scale}: {asked.choice.reason}")
    if asked.choice.scale != "laptop" and asked.corpora.uri in (PHOTOS, MOTION):
        say.line(f"warning: {asked.corpora.uri} has {asked.corpora.counts[0]} samples; at this scale give a real corpus with --corpus")

    from vitok.study.run import Sweep, run
    from vitok.study.tracking import Tracker, address

    tracker = Tracker(address(storage), storage, study.name)
    done = tracker.finished(cell.digest for cell in asked.cells)
    sweep = Sweep(study, asked.scale, asked.choice.scale, asked.corpora, asked.cells, asked.key, asked.changes, storage, tracker)
    if len(done) < len(asked.cells):
        there = tracker.weights(cell.digest for cell in grid.tokenizers(asked.cells, asked.corpora.fingerprint))
        cells = [cell for cell in asked.planned if cell.digest not in there]
        planned = plan(cells, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri)
        say.line(planned.summary())
        for warning in planned.warnings:
            say.line(f"warning: {warning}")
        say.line(f"{len(done)} of them are finished")
        if offered is None:
            with place.core_silent():
                offered = place.connect(slots=64)
        with place.results_apart():
            run(sweep, offered, say)
    else:
        say.line(f"all {len(done)} cells are finished; nothing to run")
        tracker.close(tracker.sweep(asked.key, sweep.tags(), [cell.digest for cell in asked.cells]), finished=True)
    from vitok.study import report

    _show_report(report.write(study, tracker, asked.key, storage / study.name / "report"))


def _status(study: Study, options: Readable) -> None:
    asked, storage = _ask(study, options), place.storage(options.storage)
    from vitok.study.tracking import Tracker, address

    states = Tracker(address(storage), storage, study.name).states(cell.digest for cell in asked.cells)
    rows = [{"cell": cell.digest, "name": cell.label, **states.get(cell.digest, {"status": "open"})} for cell in asked.cells]
    count = {status: sum(row["status"] == status for row in rows) for status in sorted({row["status"] for row in rows})}
    if options.json:
        print(json.dumps({"study": study.name, "scale": asked.choice.scale, "count": count, "cells": rows}, indent=2))
        return
    from vitok.study.tables import show

    columns = ("name", "status", *asked.scale.resources.metrics, "error", "cell")
    show(f"{study.name} at scale {asked.choice.scale}: " + ", ".join(f"{n} {status}" for status, n in count.items()), columns, rows)


def _report(study: Study, options: Readable) -> None:
    storage = place.storage(options.storage)
    choice = place.choose(study.scales, options.scale, None)
    from vitok.data.corpora import canonical
    from vitok.study import report
    from vitok.study.identity import key
    from vitok.study.tracking import Tracker, address

    tracker = Tracker(address(storage), storage, study.name)
    sweep = key(study.name, choice.scale, canonical(options.corpus or study.corpus), parsed(options.changes))
    summary = report.write(study, tracker, sweep, storage / study.name / "report")
    print(json.dumps(summary, indent=2)) if options.json else _show_report(summary)


def _show_plan(study: Study, planned: Plan) -> None:
    from vitok.study.tables import show

    columns = ("variant", "dit", "c", "L", "E", "compression", "params_m", "gmacs", "seed", "steps", "worker_gb", "training_flops", "time")
    rows = [row | {"time": duration(row["hours"])} for row in planned.rows]
    show(f"{study.name} at scale {planned.scale} ({planned.reason}), corpus {planned.corpus}", columns, rows)
    print(f"{planned.summary()}; {planned.workers} worker(s) a trial")
    for warning in planned.warnings:
        print(f"warning: {warning}")


def _show_report(summary: dict[str, Any]) -> None:
    from vitok.study.tables import show

    rows = summary["results"]
    show(f"{summary['study']} at scale {summary['scale']}", tuple(rows[0]), rows)
    for claim in summary["claims"]:
        print(f"{claim['verdict']}: {claim['claim']}. {claim['evidence']}.")
    for problem in summary["problems"]:
        print(problem)
    print(f"report: {summary['report']}")
