"""Baselines beside a study's cells: which, at how many bits; and one that cannot be had is told, not hidden."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.recipes import session
from vitok.data.corpora.corpus import open_corpora
from vitok.errors import VitokError
from vitok.orchestration import baselines, evaluation_run
from vitok.orchestration.evaluation_run import EvaluationRequest
from vitok.orchestration.request import Choice, Request
from vitok.orchestration.session import Session
from vitok.study import grid, presets
from vitok.study.study import Study
from vitok.tracking.tags import BASELINES, UNAVAILABLE

SCALE = presets.second_stage(presets.laptop(), "laptop", {"tokenizer.channels": (8, 16)}).with_parents().beside("jpeg", "sd-vae")


@pytest.fixture
def request_() -> Request:
    corpora = open_corpora("sample-photos")
    study = Study(name="mine", question="", hypothesis="", figure=lambda *_: None, scales={"laptop": SCALE})  # pyright: ignore
    return Request(study, SCALE, Choice("laptop", ""), corpora, grid.cells(SCALE, (0, 1), corpora.fingerprint), "key", {})


@pytest.fixture
def here(tmp_path: Path, request_: Request) -> Session:
    found = session(tmp_path, cpus=2.0)
    found.tracker("mine").sweep("key", request_.tags(), [cell.digest for cell in request_.cells])
    return found


def test_a_codec_has_the_bits_of_each_latent_and_an_autoencoder_stands_once(
    request_: Request, here: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[EvaluationRequest] = []
    monkeypatch.setattr(evaluation_run, "run", lambda one, _: measured.append(one))
    monkeypatch.setattr(baselines.Baseline, "digest", _offline)
    assert baselines.missing(request_, here)
    baselines.measure(request_, here)
    assert [one.target.name for one in measured] == ["JPEG at 2048 bits", "JPEG at 4096 bits"], "16 a float: E = 128 and 256"
    views = [one.views for one in measured]
    assert {(one.part, one.size, one.data.validation_crops, one.samples) for one in views} == {("validation", 32, 32, 0)}
    parent = here.tracker("mine").find_sweep("key")
    assert parent is not None and parent.data.tags[BASELINES].split() == [one.digest for one in measured]
    assert parent.data.tags[UNAVAILABLE] == "sd-vae is not beside them: no way to the hub"
    assert "warning: sd-vae" in capsys.readouterr().err
    assert baselines.missing(request_, here), "the next run may find what was missing"
    monkeypatch.setattr(baselines.Baseline, "digest", lambda self: "abc")
    baselines.measure(request_, here)
    assert [one.target.name[:6] for one in measured[2:]] == ["JPEG a", "SD-VAE", "JPEG a"] and not baselines.missing(request_, here)


def test_a_study_without_baselines_measures_none(request_: Request, here: Session) -> None:
    alone = replace(request_, scale=replace(SCALE, baselines=()))
    assert not baselines.missing(alone, here)
    baselines.measure(alone, here)


def _offline(self: Any) -> str:
    raise VitokError("no way to\nthe hub")
