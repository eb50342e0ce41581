"""`vitok studies`: the catalogue, what of it is done, runs of it, a study of one's own."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import tyro

from vitok.errors import UsageError, VitokError
from vitok.orchestration.request import CollectionJsonOptions, CollectionOptions

Folder = Annotated[Path | None, tyro.conf.arg(metavar="PATH")]


def show(options: tyro.conf.OmitArgPrefixes[CollectionJsonOptions], folder: Folder = None) -> None:
    """Show the catalogue: every study with its cells at a scale, how many no study before it has, how many are finished, and its hours.

    Args:
        options: As studies take them.
        folder: Where studies are. Default: ./studies, or the one beside this package.
    """
    rows, total = _rows(options, folder)
    if options.json:
        print(json.dumps({"studies": rows, **total}, indent=2))
        return
    from vitok.console.tables import show
    from vitok.orchestration.plan import duration

    table = [row | {"time": duration(row["hours"]) if row["hours"] else ""} for row in rows]
    show(f"Studies at scale {total['scale']}", ("name", "source", "cells", "new", "finished", "time", "question"), table)
    print(
        f"{total['uses']} uses of {total['distinct']} distinct cells (what cells start from included), {total['finished']} of them "
        f"finished: about {duration(total['hours'])} of trials in all"
    )


def status(options: tyro.conf.OmitArgPrefixes[CollectionJsonOptions], folder: Folder = None) -> None:
    """Show what is done of each study: cells by state, verdicts of its last report.

    Args:
        options: As studies take them.
        folder: Where studies are. Default: ./studies, or the one beside this package.
    """
    from vitok.console.tables import show
    from vitok.orchestration.session import Session

    session, rows = Session(options.storage), list[dict[str, Any]]()
    states = _states(session)
    for entry, asked in _asked(options, folder):
        count = Counter(states.get(cell.digest, "open") for cell in asked.cells) if asked else {}
        claims = json.loads(session.storage.report(entry.name).read("claims.json") or "[]")
        verdicts = Counter(claim["verdict"] for claim in claims)
        told = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
        rows.append({"name": entry.name, **count, "claims of the last report": told or None})
    columns = ("name", "finished", "begun", "failed", "open", "claims of the last report")
    print(json.dumps(rows, indent=2)) if options.json else show("Studies", columns, rows)


def run(
    options: tyro.conf.OmitArgPrefixes[CollectionOptions], names: tyro.conf.Positional[tuple[str, ...]] = (),
    everything: Annotated[bool, tyro.conf.arg(name="all")] = False, folder: Folder = None,
) -> None:  # fmt: skip
    """Run studies one after the other, each distinct cell once; the same command continues.

    vitok studies run findings --scale laptop

    vitok studies run e_sweep generation_e_sweep --seeds 0 1 2

    vitok studies run --all --scale paper --corpus imagenet:path --videos ucf101:path

    Args:
        options: As studies take them.
        names: Of studies.
        everything: Every study of the folder.
        folder: Where studies are. Default: ./studies, or the one beside this package.
    """
    from vitok.cli import study_file
    from vitok.orchestration.session import Session
    from vitok.study import catalogue, collection
    from vitok.study.study import Study

    entries = catalogue.load_catalogue(catalogue.find_folder(folder))
    if everything == bool(names):
        raise UsageError(f"name studies, or give --all; there are {', '.join(entry.name for entry in entries)}")
    chosen = entries if everything else catalogue.select_entries(entries, names)
    options.check(entry.holds for entry in entries if isinstance(entry.holds, Study))
    session, failed = Session(options.storage), list[str]()
    for entry in chosen:
        try:
            if isinstance(entry.holds, collection.Collection):
                study_file.show_collection(study_file.run_collection(entry.holds, options, session))
            else:
                study_file.show_report(study_file.run_study(entry.holds, options.of(entry.holds), session))
        except VitokError as error:
            if len(chosen) == 1:
                raise
            failed.append(entry.name)
            session.say(f"error: {entry.name}: {error}")
    if failed:
        raise VitokError(f"{len(failed)} of {len(chosen)} studies did not come to an end (run again to go on): {', '.join(failed)}")


def new(name: tyro.conf.Positional[str], folder: Folder = None) -> None:
    """Write a commented study of your own, ready to run: studies/NAME.py.

    Args:
        name: Small letters, digits and underscores.
        folder: Where to. Default: ./studies, or the one beside this package.
    """
    from vitok.study import catalogue
    from vitok.study.template import write_study

    print(write_study(name, catalogue.find_folder(folder)))


def _asked(options: CollectionJsonOptions, folder: Path | None) -> list[tuple[Any, Any]]:
    """Return the studies of the folder, each with its request; None for one that trains nothing at this scale."""
    from vitok.orchestration.request import resolve
    from vitok.study import catalogue
    from vitok.study.study import Study

    entries = catalogue.load_catalogue(catalogue.find_folder(folder))
    studies = [(entry, entry.holds) for entry in entries if isinstance(entry.holds, Study)]
    options.check(study for _, study in studies)
    there = [(entry, study, study.scales and (not options.scale or options.scale in study.scales)) for entry, study in studies]
    return [(entry, resolve(study, options.of(study)) if trains else None) for entry, study, trains in there]


def _rows(options: CollectionJsonOptions, folder: Path | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    from vitok.orchestration.plan import plan
    from vitok.orchestration.session import Session

    states, seen, uses = _states(Session(options.storage)), dict[str, float](), 0
    rows: list[dict[str, Any]] = []
    for entry, asked in _asked(options, folder):
        row = {"name": entry.name, "source": entry.holds.source, "question": entry.holds.question}
        row |= {"cells": 0, "new": 0, "finished": 0, "hours": 0.0}
        if asked:
            planned = plan(asked)
            hours = {one["cell"]: one["hours"] for one in planned.rows}
            fresh = {cell: cost for cell, cost in hours.items() if cell not in seen}
            row |= {"cells": len(hours), "new": len(fresh), "hours": sum(fresh.values())}
            row["finished"] = sum(states.get(cell) == "finished" for cell in hours)
            seen, uses = seen | hours, uses + len(hours)
        rows.append(row)
    finished = sum(states.get(cell) == "finished" for cell in seen)
    return rows, {
        "scale": options.scale or "of this machine", "uses": uses, "distinct": len(seen), "finished": finished, "hours": sum(seen.values()),
    }  # fmt: skip


def _states(session: Any) -> dict[str, str]:
    """Return the state of every cell of all studies; nothing where nothing was ever run."""
    from vitok.tracking import client

    storage = session.storage
    if client.address(storage.path) == f"sqlite:///{storage.database}" and not storage.database.is_file():
        return {}
    return session.tracker("train").every_state()
