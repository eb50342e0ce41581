"""A nested tokenizer (A.4) from its training to its report: measured at every length, each value under a name of its own."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.recipes import RESOURCES, make_job, tiny
from tests.train.conftest import Curve
from vitok import cli
from vitok.config import Data, Recipe
from vitok.config.overrides import override
from vitok.console.panel import sentence
from vitok.data.corpora.corpus import Corpora, open_corpora
from vitok.data.loading.loader import prepare_source
from vitok.errors import UsageError
from vitok.evaluation.available import available
from vitok.evaluation.trained import Trained
from vitok.metrics.registry import in_catalogue_order
from vitok.orchestration.capacity import Capacity
from vitok.orchestration.evaluation_run import EvaluationRequest, Target, Views
from vitok.report.results import drop_incomparable
from vitok.study.grid import describe
from vitok.tracking.client import Tracker
from vitok.tracking.tags import CORPUS, FOLDER, PROTOCOL, STUDY
from vitok.train import launch

pytestmark = pytest.mark.usefixtures("cluster")

NAMES = ("rPSNR", "rFD-EffLite0")
OF_PSNR = ("rPSNR:2", "rPSNR:4", "rPSNR")
WANTED = ["rPSNR", "rPSNR:2", "rPSNR:4", "rFD-EffLite0", "rFD-EffLite0:2", "rFD-EffLite0:4"]


def recipe() -> Recipe:
    return tiny(tokenizer__latent_tokens=6, tokenizer__shortest=2, data__validation_crops=12)


@pytest.fixture(scope="module")
def corpora(photos: Path) -> Corpora:
    return open_corpora(str(photos))


@pytest.fixture(scope="module")
def trained(corpora: Corpora, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, launch.RunOutcome, Curve]:
    folder, curve, found = tmp_path_factory.mktemp("nested"), Curve(), available(NAMES, asked=True)
    resources = override(RESOURCES, {"metrics": ",".join(NAMES), "evaluate_every": 4})
    source = prepare_source(corpora, recipe().data, 32)
    outcome = launch.run(*make_job(recipe(), resources, source, found.payloads, folder, curve))
    return folder, outcome, curve


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def tracker(storage: Path) -> Tracker:
    return Tracker(f"sqlite:///{storage}/mlflow.db", storage, "eval")


def test_a_run_measures_every_length(trained: tuple[Path, launch.RunOutcome, Curve], tracker: Tracker) -> None:
    _, outcome, curve = trained
    found = outcome.evaluation
    assert in_catalogue_order(found.metrics) == WANTED and set(found.protocols) == set(WANTED)
    assert set(found.per_image) == {"rPSNR", "rPSNR:2", "rPSNR:4"}
    assert len({tuple(values) for values in found.per_image.values()}) == 3
    assert found.protocols["rPSNR"].settings == "" and found.protocols["rPSNR:2"].settings == "the first 2 of 6 tokens"
    assert found.protocols["rFD-EffLite0:4"].settings == found.protocols["rFD-EffLite0"].settings + "; the first 4 of 6 tokens"
    assert {one.metric for one in found.protocols.values()} == set(NAMES)
    assert {f"validation/{name}" for name in WANTED} < set(curve.points[4]) and "rPSNR:2 " in sentence(curve.points[4])
    run_id = tracker.child(None, "cell", "cell", {STUDY: "train"}, describe(recipe()))
    tracker.log(run_id, curve.points[4], 4)
    tracker.finish(run_id, found.metrics, 8, {}, {f"{PROTOCOL}{name}": one.json() for name, one in found.protocols.items()})
    rows = tracker.rows(tracker.finished(["cell"]).values())
    assert [(row["L"], row["rPSNR"]) for row in rows] == [
        (length, found.metrics[name]) for length, name in zip((2, 4, 6), OF_PSNR, strict=True)
    ]
    assert all(set(row["protocols"]) == set(NAMES) for row in rows) and drop_incomparable(rows) == (rows, [])


@pytest.mark.long
def test_one_length_outside_of_training(
    trained: Any, corpora: Corpora, tracker: Tracker, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command: the same values by the same protocols; and its run gets what it lacks, under that name."""
    folder, outcome, _ = trained
    there = {f"{PROTOCOL}{name}": one.json() for name, one in outcome.evaluation.protocols.items() if name != "rPSNR:4"}
    run_id = tracker.child(None, "another", "another", {FOLDER: str(folder), CORPUS: corpora.fingerprint, STUDY: "train"}, {})
    tracker.finish(run_id, {}, 8, {}, there)
    monkeypatch.setattr("vitok.orchestration.session.connect", lambda storage: Capacity({"CPU": 2.0}))  # this process is connected already
    arguments = ["--tokens", "4", "--corpus", corpora.uri, "--metrics", ",".join(NAMES), "--storage", str(storage), "--json"]
    monkeypatch.setattr(sys, "argv", ["vitok", "eval", str(folder), *arguments])
    cli.main()
    found = json.loads(capsys.readouterr().out)
    assert found["name"].endswith("/8+L6+M2 c=16 seed=0 stage 1, the first 4 of 6 tokens")
    assert (found["tokens"], found["E"], found["compression"]) == (4, 64, 48.0)
    assert in_catalogue_order(found["metrics"]) == ["rPSNR:4", "rFD-EffLite0:4"]
    for name, one in found["metrics"].items():
        assert one["value"] == pytest.approx(outcome.evaluation.metrics[name], rel=1e-3)
        assert one["protocol"]["digest"] == outcome.evaluation.protocols[name].digest
    after = tracker.find_run(run_id)
    assert after and {name for name in after.data.metrics if name.startswith("final/")} == {"final/rPSNR:4"}


def test_every_length_is_an_evaluation_of_its_own(trained: Any, corpora: Corpora) -> None:
    subject = Trained("tiny", recipe(), load_file(trained[0] / "tokenizer.safetensors"))
    some = [subject.first(tokens, 32, 1) for tokens in (1, 3, 6)]
    asked = [
        EvaluationRequest(
            Target(one.name, "the weights", one, prefix=one.prefix), Views(corpora, "validation", Data(), 32, 1),
            available(["rPSNR"], asked=True), 8, 2,
        )
        for one in (*some, subject)
    ]  # fmt: skip
    assert len({one.digest for one in asked}) == 3 and asked[2].digest == asked[3].digest


def test_lengths_that_there_are_not(trained: Any) -> None:
    subject = Trained("tiny", recipe(), load_file(trained[0] / "tokenizer.safetensors"))
    with pytest.raises(UsageError, match=r"--tokens 7: the code of .*\+L6\+M2 has 1 to 6"):
        subject.first(7, 32, 1)
    with pytest.raises(UsageError, match=r"--tokens 4: T-M/8 is not nested, all 16 tokens of its code are needed"):
        replace(subject, recipe=tiny()).first(4, 32, 1)
    assert subject.first(6, 64, 1) is subject
    simple = replace(subject, recipe=tiny(tokenizer__shortest=2)).first(16, 64, 1)
    assert str(simple.prefix) == "the first 16 of 64 tokens"
