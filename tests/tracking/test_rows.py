"""From runs to rows: names, lengths of a nested code, versions of the code, the paper's numbers."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

import vitok
from vitok.analysis.rows import Row
from vitok.errors import VitokError
from vitok.metrics.protocol import Protocol
from vitok.metrics.registry import METRICS
from vitok.report import paper, results
from vitok.report.results import drop_incomparable
from vitok.study.labels import distinguish_labels, with_labels
from vitok.tracking.client import Tracker
from vitok.tracking.rows import rows_by_length

BASE: Row = {"variant": "T-M/8", "c": 16, "p": 8, "L": 16, "E": 256, "compression": 12.0, "size": 32, "frames": 1, "protocols": {}}


def row(**changes: Any) -> Row:
    return BASE | {"cell": "a", "seed": 0, "run_id": "r", "version": vitok.__version__, "commit": "x"} | changes


def protocol(metric: str, **changes: Any) -> str:
    fields = {"size": 32, "frames": 1, "count": 64, "views": "32 fixed random crops", "settings": "", "network": ""} | changes
    return Protocol(metric, fields["network"], "", "", "", "", fields["views"], fields["size"], fields["frames"], fields["count"],
                    fields["settings"], 0, "").json()  # fmt: skip


def test_settings_are_the_same_for_all_seeds() -> None:
    rows = with_labels([row(seed=seed, **{"loss.lpips": weight}) for weight in (0.1, 0.5) for seed in (0, 1)])
    assert [one["label"] for one in rows] == [f"T-M/8 c=16 seed={seed} lpips={weight}" for weight in (0.1, 0.5) for seed in (0, 1)]
    assert [one["setting"] for one in rows] == ["T-M/8 c=16 lpips=0.1"] * 2 + ["T-M/8 c=16 lpips=0.5"] * 2
    dit = with_labels([row(dit="DiT-T", seed=3, **{"tokenizer.seed": 2})])[0]
    assert (dit["label"], dit["setting"]) == ("DiT-T on T-M/8 c=16 seed=2 (DiT seed=3)", "DiT-T on T-M/8 c=16")
    assert with_labels([row(subject="JPEG at 512 bits")])[0]["setting"] == "JPEG at 512 bits"


def test_leaves_of_one_name_are_told_in_full() -> None:
    labels = distinguish_labels(["x", "x", "y"], [{"gan.lr": 1, "optimizer.lr": 1}, {"gan.lr": 2, "optimizer.lr": 3}, {"gan.lr": 9}])
    assert labels == ["x gan.lr=1 optimizer.lr=1", "x gan.lr=2 optimizer.lr=3", "y"]


def test_a_nested_code_is_a_row_a_length() -> None:
    texts = {name: protocol("rPSNR", settings=settings) for name, settings in
             (("rPSNR", ""), ("rPSNR:8", "the first 8 of 16 tokens"), ("rPSNR:4", "the first 4 of 16 tokens"))}  # fmt: skip
    whole = row(variant="T-M/8+M4", rPSNR=25.0, images=64, protocols=texts, **{"rPSNR:8": 22.0, "rPSNR:4": 20.0})
    rows = with_labels(rows_by_length(whole))
    assert [(one["L"], one["E"], one["rPSNR"], one["compression"]) for one in rows] == [
        (4, 64, 20.0, 48.0), (8, 128, 22.0, 24.0), (16, 256, 25.0, 12.0),
    ]  # fmt: skip
    assert [one["cell"] for one in rows] == ["a:4", "a:8", "a"] and rows[0]["label"].endswith("first 4")
    assert all("rPSNR:8" not in one and one["images"] == 64 for one in rows)
    assert drop_incomparable(rows) == (rows, []), "at each its own length: comparable"
    assert rows_by_length(row(rPSNR=1.0)) == [row(rPSNR=1.0)]


def test_distances_between_sets_stay_with_clips() -> None:
    """A clip's rPSNR, the mean over its frames, stands beside an image's; a Fréchet distance of eight times the frames does not."""
    names = {"rPSNR": 64, "rFD-EffLite0": 64}
    image = row(rPSNR=1.0, protocols={name: protocol(name, count=count) for name, count in names.items()}) | {"rFD-EffLite0": 2.0}
    views = "32 fixed random crops, 8 frames at 8 a second"
    counts = {"rPSNR": 64, "rFD-EffLite0": 512}
    clips = {name: protocol(name, count=count, frames=8, views=views) for name, count in counts.items()}
    clip = row(cell="b", frames=8, rPSNR=3.0, protocols=clips) | {"rFD-EffLite0": 4.0}
    rows, problems = drop_incomparable([image, clip])
    assert "rFD-EffLite0" not in rows[0] and "rFD-EffLite0" in rows[1] and all("rPSNR" in one for one in rows)
    assert len(problems) == 1 and "of single images is left out (1 cells)" in problems[0]


class Runs:
    def __init__(self, rows: list[Row]) -> None:
        self.all = rows

    def find_sweep(self, key: str) -> Any:
        return SimpleNamespace(data=SimpleNamespace(tags={"vitok.cells": "a b c"}))

    def finished(self, wanted: list[str], any_version: bool) -> Any:
        return {one["cell"]: one for one in self.all if one["cell"] in wanted}

    def rows(self, runs: Any) -> list[Row]:
        return with_labels([dict(one) for one in runs])

    def artifact(self, run_id: str, name: str) -> bytes:
        return b"{}"


def test_versions_of_the_code_are_shown_and_not_mixed() -> None:
    rows = [row(cell="a"), row(cell="b", c=8, version="0.0.1"), row(cell="c", c=4, version="0.0.1")]
    tracker = cast(Tracker, Runs(rows))
    found = results.collect_results("study", tracker, "key", any_version=False)
    assert [one["cell"] for one in found.rows] == ["a"] and [one["cell"] for one in found.others] == ["b", "c"]
    assert found.problems[0].startswith(f"2 cells of vitok 0.0.1 are shown apart from those of {vitok.__version__}")
    assert len(results.collect_results("study", tracker, "key", any_version=True).rows) == 3
    old = cast(Tracker, Runs(rows[1:]))
    assert len(results.collect_results("study", old, "key", any_version=False).rows) == 2, "one version, whichever: nothing is mixed"
    with pytest.raises(VitokError, match="no finished cell"):
        results.collect_results("study", cast(Tracker, Runs([])), "key", any_version=False)


def test_the_papers_numbers_are_for_studies_that_there_are() -> None:
    from pathlib import Path

    studies = {path.stem for path in (Path(__file__).parents[2] / "studies").glob("[a-z]*.py")}
    known = {*METRICS, "params_m", "gmacs", "best_E", "times_E", "at_least", "at_most", "gan_lr", "gan_weight"}
    for one in paper.all_reported():
        assert set(one.studies) <= studies and set(one.values) <= known, one
    trained = studies - {"findings", "decoder_shape"}  # a question that the paper does not ask
    assert trained == {name for one in paper.all_reported() for name in one.studies}, "every report has reference marks"


def test_reference_marks_are_stars_where_the_axis_is_the_papers() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    here, there = figure.subplots(1, 2)
    for axis, floats in ((here, (2.0**8, 2.0**16)), (there, (2.0**6, 2.0**13))):
        axis.set_gid("E:rPSNR")
        axis.set_xlim(floats)
        axis.set_ylim(20, 30)
    there.set_gid("")
    paper.mark_figure(figure, paper.reported_values("e_sweep"), {256})
    assert (len(here.collections), len(here.lines)) == (1, 0) and here.texts[0].get_text() == "paper"
    there.set_gid("E:rPSNR")
    here.set_gid("")
    paper.mark_figure(figure, paper.reported_values("e_sweep"), {32})
    assert (len(there.collections), len(there.lines)) == (0, 1), "of another size an E is another thing"
    assert "24.36" in there.texts[0].get_text() and "256 pixels" in there.texts[0].get_text()


def test_clips_and_images_of_one_metric_stand_at_their_compressions() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    axis = figure.subplots()
    axis.set_gid("compression:rFID")
    axis.set_xlim(10, 400)
    axis.set_ylim(0, 10)
    paper.mark_figure(figure, paper.reported_values("video_e_sweep"), {256})
    found = sorted(x for collection in axis.collections for x, _ in np.asarray(collection.get_offsets()))
    assert found == [48, 192], "Section 3.5: 4096 floats for an image, 16384 for a clip of 16 frames"
