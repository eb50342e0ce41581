"""Several studies that answer together: each runs as it would alone, and one page holds all verdicts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitok.data import mirror
from vitok.errors import VitokError
from vitok.study import place
from vitok.study.asked import Asked, Several, Told, ask
from vitok.study.progress import Progress
from vitok.study.study import Study


@dataclass(frozen=True)
class Part:
    """One answer: a statement, and what tests it. Studies of one part share their cells, or most of them."""

    statement: str
    studies: tuple[Study[Any], ...]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # column -> values: the cells that it takes; none: all

    def taken(self, asked: Asked) -> Asked:
        mark = ", ".join(f"{column} is {' or '.join(map(str, values))}" for column, values in self.only.items())
        return asked.taking(lambda cell: all(cell.described.get(column) in values for column, values in self.only.items()), mark)


@dataclass(frozen=True)
class Collection:
    name: str
    question: str
    parts: tuple[Part, ...]
    seeds: tuple[int, ...] = (0,)  # without --seeds
    source: str = ""

    def main(self, doc: str | None = None) -> None:
        """The command line of the file that holds it."""
        from vitok.study.commands import Command, serve

        running = "Run what is not finished of all parts, then write the page. Stop it at any moment; the same command continues."
        serve(
            (
                Command("run", running, Several, lambda options: show(self.run(options))),
                Command("plan", "Show what each part costs, before anything starts.", Told, lambda options: show_plan(self, options)),
            ),
            doc or self.question,
        )

    def plan(self, options: Several) -> dict[str, Any]:
        """What each part takes that no part before it has. Raises `UsageError`."""
        from vitok.study.plan import plan

        options, seen = self._checked(options), set[str]()
        rows: list[dict[str, Any]] = []
        clock: float | None = 0.0
        for part in self.parts:
            cells, fresh = set[str](), dict[str, float]()
            for study in part.studies:
                asked = ask(study, options.of(study))
                asked = part.taken(asked) if part.only else asked
                planned = plan(asked.planned, asked.scale, asked.choice.scale, asked.choice.reason, asked.corpora.uri)
                new = {row["cell"]: row["hours"] for row in planned.rows if row["cell"] not in seen}
                cells, fresh, seen = cells | {row["cell"] for row in planned.rows}, fresh | new, seen | new.keys()
                clock = clock + sum(new.values()) / planned.at_once if clock is not None and planned.at_once else None
            names = [study.name for study in part.studies]
            rows.append({"part": part.statement, "studies": names, "cells": len(cells), "new": len(fresh), "hours": sum(fresh.values())})
        hours = sum(row["hours"] for row in rows)
        return {"collection": self.name, "parts": rows, "distinct": len(seen), "trial_hours": hours, "hours_by_the_clock": clock}

    def _checked(self, options: Several) -> Several:
        options.check(study for part in self.parts for study in part.studies)
        return options if options.seeds else replace(options, seeds=self.seeds)

    def run(self, options: Several, say: Progress | None = None) -> dict[str, Any]:
        """Run what is not finished of every part, then write the page; its summary. A part that fails does not keep the others from
        running. Raises `VitokError` at the end if one did."""
        from vitok.study import app

        say, failed = say or Progress(), list[str]()
        options = self._checked(options)
        answers: list[dict[str, Any]] = []
        for number, part in enumerate(self.parts, start=1):
            say.line(f"[{say.clock()}] {self.name} {number} of {len(self.parts)}: {part.statement}")
            try:
                found = [app.run(study, options.of(study), say, part.taken if part.only else None, self.name) for study in part.studies]
                answers.append(_answer(part, found))
            except VitokError as error:
                failed.append(f"{part.statement}: {error}")
        summary = {"collection": self.name, "question": self.question, "answers": answers}
        if answers:
            summary["report"] = mirror.told(_write(self, place.storage(options.storage) / self.name, summary))
        if failed:
            raise VitokError(f"{len(failed)} of {len(self.parts)} studies did not come to an end: " + "; ".join(failed))
        return summary


def _answer(part: Part, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Supported if all claims are, not supported if one is not; else it is open."""
    claims = [claim for summary in summaries for claim in summary["claims"]]
    verdicts = {claim["verdict"] for claim in claims}
    verdict = "not supported" if "not supported" in verdicts else "supported" if verdicts == {"supported"} else "inconclusive"
    return {"statement": part.statement, "verdict": verdict, "claims": claims, "summaries": summaries}


def _write(collection: Collection, folder: Path, summary: dict[str, Any]) -> Path:
    import base64

    from vitok.study.page import environment
    from vitok.study.report import keep

    reports = [mirror.here(one["report"]) for answer in summary["answers"] for one in answer["summaries"]]
    pictures = {str(path): base64.b64encode((path.parent / f"{path.parent.parent.name}.svg").read_bytes()).decode() for path in reports}
    page = environment().get_template("collection.html").render(collection=collection, answers=summary["answers"], pictures=pictures)
    keep(folder, {"index.html": page.encode(), f"{collection.name}.json": json.dumps(summary, indent=2).encode()})
    return folder / "index.html"


def show(summary: dict[str, Any]) -> None:
    for answer in summary["answers"]:
        print(f"{answer['verdict'].upper()}: {answer['statement']}")
        for claim in answer["claims"]:
            print(f"    {claim['verdict']}: {claim['claim']}. {claim['evidence']}.")
    print(f"report: {summary['report']}")


def show_plan(collection: Collection, options: Told) -> None:
    from vitok.study.plan import duration
    from vitok.study.tables import show

    found = collection.plan(options)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    rows = [row | {"studies": ", ".join(row["studies"]), "time": duration(row["hours"])} for row in found["parts"]]
    show(collection.name, ("part", "studies", "cells", "new", "time"), rows)
    clock = "" if found["hours_by_the_clock"] is None else f", {duration(found['hours_by_the_clock'])} by the clock"
    print(f"{found['distinct']} distinct cells: about {duration(found['trial_hours'])} of trials{clock}")
