"""Baselines beside a study's cells: which, at how many bits; and one that cannot be had is told, not hidden."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vitok.console.progress import Progress
from vitok.data.corpora.corpus import open_corpora
from vitok.errors import VitokError
from vitok.evaluation import standalone
from vitok.orchestration import baselines
from vitok.orchestration.sweep import Sweep
from vitok.study import grid, presets
from vitok.study.study import Study
from vitok.tracking.client import Tracker
from vitok.tracking.tags import BESIDE, LACKING

SCALE = presets.second(presets.laptop(), "laptop", {"tokenizer.channels": (8, 16)}).with_parents().beside("jpeg", "sd-vae")


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    corpora = open_corpora("sample-photos")
    study = Study(name="mine", question="", hypothesis="", figure=lambda *_: None, scales={"laptop": SCALE})  # pyright: ignore
    cells = grid.cells(SCALE, (0, 1), corpora.fingerprint)
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, "mine")
    found = Sweep(study, SCALE, "laptop", corpora, cells, "key", {}, tmp_path, tracker)
    tracker.sweep("key", found.tags(), [cell.digest for cell in cells])
    return found


def test_a_codec_has_the_bits_of_each_latent_and_an_autoencoder_stands_once(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(standalone, "run", lambda one, *_: asked.append(one))
    monkeypatch.setattr(baselines.Baseline, "digest", _offline)
    assert baselines.open_ones(sweep)
    baselines.measure(sweep, {"CPU": 2.0}, Progress())
    assert [one.label for one in asked] == ["JPEG at 2048 bits", "JPEG at 4096 bits"], "16 a float: E = 128 and 256"
    assert {(one.part, one.size, one.data.validation_crops, one.samples) for one in asked} == {("validation", 32, 32, 0)}
    parent = sweep.tracker.find_sweep("key")
    assert parent is not None and parent.data.tags[BESIDE].split() == [one.digest for one in asked]
    assert parent.data.tags[LACKING] == "sd-vae is not beside them: no way to the hub" and "warning: sd-vae" in capsys.readouterr().err
    assert baselines.open_ones(sweep), "the next run may find what was missing"
    monkeypatch.setattr(baselines.Baseline, "digest", lambda self: "abc")
    baselines.measure(sweep, {"CPU": 2.0}, Progress())
    assert [one.label[:6] for one in asked[2:]] == ["JPEG a", "SD-VAE", "JPEG a"] and not baselines.open_ones(sweep)


def test_a_study_without_baselines_measures_none(sweep: Sweep) -> None:
    alone = replace(sweep, scale=replace(SCALE, baselines=()))
    assert not baselines.open_ones(alone)
    baselines.measure(alone, {}, Progress())


def _offline(self: Any) -> str:
    raise VitokError("no way to\nthe hub")
