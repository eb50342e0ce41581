"""Several studies that answer together: each runs as it would alone, and one page holds all verdicts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vitok.errors import VitokError
from vitok.study import place
from vitok.study.asked import Asked, Several
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
        import tyro

        from vitok.errors import exit_on_error

        def run(options: Several) -> None:
            exit_on_error(lambda: show(self.run(options)))

        run.__doc__ = doc or self.question
        tyro.cli(run, config=(tyro.conf.OmitArgPrefixes,))

    def run(self, options: Several, say: Progress | None = None) -> dict[str, Any]:
        """Run what is not finished of every part, then write the page; its summary. A part that fails does not keep the others from
        running. Raises `VitokError` at the end if one did."""
        from vitok.study import app

        say, failed = say or Progress(), list[str]()
        options = options if options.seeds else replace(options, seeds=self.seeds)
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
            summary["report"] = str(_write(self, place.storage(options.storage) / self.name, summary))
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

    reports = [Path(one["report"]) for answer in summary["answers"] for one in answer["summaries"]]
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
