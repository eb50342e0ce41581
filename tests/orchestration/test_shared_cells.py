"""Cells belong to no study: what another has finished is taken, what another version of the code has finished is not."""

from pathlib import Path
from typing import Any

import pytest

import vitok
from tests.conftest import STUDY
from vitok.cli import study_file
from vitok.errors import VitokError
from vitok.orchestration.request import Request, StudyJsonOptions, StudyOptions, resolve
from vitok.orchestration.sweep import missing
from vitok.report import report
from vitok.storage.layout import RunFolder
from vitok.study import catalogue
from vitok.study.collection import Finding
from vitok.study.grid import describe, recipe_label
from vitok.study.study import Study
from vitok.tracking.client import Tracker
from vitok.tracking.tags import FOLDER
from vitok.tracking.tags import STUDY as OF

ENTRIES = {entry.name: entry.holds for entry in catalogue.load_catalogue(STUDY.parent)}


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return Tracker(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, "e_sweep")


def asked_of(name: str) -> Request:
    study = ENTRIES[name]
    assert isinstance(study, Study)
    return resolve(study, StudyOptions(scale="laptop"))


def finish(tracker: Tracker, asked: Request, count: int, folder: Path, version: str = vitok.__version__) -> None:
    """The first so many cells, as a run of that version of the code leaves them."""
    for cell in asked.cells[:count]:
        where = folder / cell.digest
        where.mkdir(parents=True, exist_ok=True)
        (where / RunFolder.TOKENIZER).touch()
        tags = {OF: asked.study.name, FOLDER: str(where), "vitok.version": version}
        run_id = tracker.child(None, cell.digest, recipe_label(cell.recipe), tags, describe(cell.recipe))
        tracker.finish(run_id, {"rPSNR": 20.0}, 1, {}, {})


def test_a_study_takes_what_another_has_finished(tracker: Tracker, tmp_path: Path) -> None:
    sweep, gallery = asked_of("e_sweep"), asked_of("reconstruction_gallery")
    finish(tracker, sweep, 8, tmp_path)
    done = tracker.finished(cell.digest for cell in gallery.cells)
    assert len(done) == len(gallery.cells) == 4
    assert study_file._elsewhere(gallery, tracker, done) == ["4 of its 4 cells were finished by e_sweep: they are taken as they are"]
    assert study_file._elsewhere(sweep, tracker, tracker.finished(cell.digest for cell in sweep.cells)) == []
    states = tracker.states(cell.digest for cell in gallery.cells)
    assert {(state["status"], state["study"]) for state in states.values()} == {("finished", "e_sweep")}


def test_generators_need_only_the_tokenizers_that_are_not_there(tracker: Tracker, tmp_path: Path) -> None:
    finish(tracker, asked_of("e_sweep"), 8, tmp_path)
    generation = asked_of("generation_e_sweep")
    tokenizers, generators = missing(generation.cells, generation.corpora.fingerprint, tracker)
    assert [cell.described["c"] for cell in tokenizers] == [64, 64] and len(generators) == 10
    costs = [cell.described["gmacs"] for cell in generators]
    assert costs == sorted(costs)


def test_cells_of_another_version_are_run_again_unless_any_will_do(tracker: Tracker, tmp_path: Path) -> None:
    sweep = asked_of("e_sweep")
    digests = [cell.digest for cell in sweep.cells]
    finish(tracker, sweep, 3, tmp_path, "0.0.1")
    assert tracker.finished(digests) == {} and len(tracker.finished(digests, any_version=True)) == 3 and tracker.weights(digests) == {}
    (line,) = study_file._elsewhere(sweep, tracker, {})
    assert line == "3 cells were finished by vitok 0.0.1: they are run again (--any-version takes them as they are)"


def test_a_renamed_study_is_told_where_its_cells_are(tracker: Tracker, tmp_path: Path) -> None:
    sweep = asked_of("e_sweep")
    renamed = Study(name="renamed", question="", hypothesis="", figure=sweep.study.figure, scales=sweep.study.scales)
    options = StudyJsonOptions(scale="laptop", storage=tmp_path)
    with pytest.raises(VitokError, match="renamed: no finished cell to report on; `run` it first"):
        study_file._refuse_report(renamed, options, tracker)
    finish(tracker, sweep, 8, tmp_path)
    with pytest.raises(VitokError, match=r"renamed was never run, but 8 of its cells were finished by e_sweep: `run` takes them"):
        study_file._refuse_report(renamed, options, tracker)


def test_a_part_takes_the_cells_that_it_names(tracker: Tracker) -> None:
    scaling = asked_of("encoder_scaling")
    finding = Finding("", (scaling.study,), only={"dit": (None,)})
    taken = scaling.only(finding.only)
    assert len(scaling.cells) == 14 and len(taken.cells) == 7 and all("dit" not in cell.described for cell in taken.cells)
    assert taken.key != scaling.key and taken.key == scaling.only(finding.only).key
    with pytest.raises(VitokError, match="no cell is left of 14 where p is 3"):
        scaling.only({"p": (3,)})


def test_a_collection_is_as_sure_as_its_least_sure_claim() -> None:
    def verdict(*verdicts: str) -> str:
        summary: dict[str, Any] = {"claims": [{"verdict": one} for one in verdicts]}
        return report.answer(Finding("", ()), [summary])["verdict"]

    assert verdict("supported", "supported") == "supported"
    assert verdict("supported", "inconclusive") == "inconclusive" == verdict()
    assert verdict("supported", "inconclusive", "not supported") == "not supported"
