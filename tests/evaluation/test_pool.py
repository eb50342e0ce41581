"""The pool of actors: every sample once, whatever dies and however many there are; bad input is one line."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import cloudpickle
from torch import Tensor

from tests.recipes import tiny
from vitok.data.corpora.corpus import open_corpora
from vitok.data.latents import encode
from vitok.data.loading.loader import open_reader
from vitok.errors import VitokError
from vitok.evaluation import pool
from vitok.evaluation.available import payloads
from vitok.evaluation.evaluation import build_evaluation
from vitok.evaluation.statistics import Reference
from vitok.evaluation.subject import Coder
from vitok.metrics.registry import find_metrics

pytestmark = [pytest.mark.usefixtures("cluster"), pytest.mark.long]

METRICS = find_metrics(("rPSNR", "rSSIM", "rFD-EffLite0", "rFD-EffLite0-infinity", "rPrecision-EffLite0"))
REFERENCE = Reference("photos validation", "f" * 16, "crops", 32, 1)


class Blur:
    """A subject that says who it was, and can be slow or wrong."""

    name = "blur"

    def __init__(self, seconds: float = 0.0, wrong: float | None = None, unopened: str = "") -> None:
        self.seconds, self.wrong, self.unopened = seconds, wrong, unopened

    def open(self, device: torch.device) -> Coder:
        if self.unopened:
            raise VitokError(self.unopened)

        def code(pixels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            time.sleep(self.seconds)
            blurred = torch.nn.functional.avg_pool2d(pixels, 3, 1, 1)
            if self.wrong is not None:
                blurred[-1, 0, 0, 0] = self.wrong
            return blurred, {"pid": torch.full((len(pixels),), float(os.getpid()))}

        return code


@pytest.fixture(scope="module")
def asked(photos: Path, cluster: str) -> pool.EvaluationPass:
    data = tiny().data.model_copy(update={"validation_crops": 40, "pool": 0})
    held = open_reader(open_corpora(str(photos)), "validation", data, 32, 1)
    numbers = np.arange(held.counts[0] * 40)
    return pool.EvaluationPass(
        held, numbers, Blur(), METRICS, payloads(METRICS), both=True, generated=False, outputs=0, references=0, batch=5, actors=1, gpus=0,
        threads=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(asked: pool.EvaluationPass) -> pool.PassResult:
    return pool.run(asked, None, lambda *_: None)


def values(counted: pool.PassResult) -> dict[str, float]:
    evaluation = build_evaluation(counted.tally, counted.examples, frozenset(counted.rejected.found.values()), REFERENCE, {})
    return evaluation.metrics


def test_the_number_of_actors_does_not_matter(asked: pool.EvaluationPass, undisturbed: pool.PassResult) -> None:
    """Every sample's values bit by bit, and sums of them to float64's rounding."""
    several = pool.run(replace(asked, actors=2), None, lambda *_: None)
    assert len(np.unique(several.tally.values["said pid"])) == 2
    assert several.tally.seen.all() and values(several) == pytest.approx(values(undisturbed), rel=1e-12)
    assert np.array_equal(several.tally.values["rSSIM"], undisturbed.tally.values["rSSIM"])
    assert len(undisturbed.examples.kept) == 16


def test_an_actor_that_dies_is_replaced_and_nothing_counts_twice(asked: pool.EvaluationPass, undisturbed: pool.PassResult) -> None:
    killed: list[int] = []

    def progress(done: int, total: int, here: int) -> None:
        pids = {int(row["pid"]) for row in _workers()} - set(killed)
        if len(killed) < 2 and done < total - 20 and pids:
            killed.append(pids.pop())
            os.kill(killed[-1], signal.SIGKILL)

    slow = replace(asked, subject=Blur(seconds=0.3), actors=2)
    counted = pool.run(slow, None, progress)
    assert len(killed) == 2
    assert counted.tally.seen.all() and counted.done == len(asked.numbers)
    assert values(counted) == pytest.approx(values(undisturbed), rel=1e-12)
    assert np.array_equal(counted.tally.values["rPSNR"], undisturbed.tally.values["rPSNR"])


def _workers() -> list[dict[str, int]]:
    import ray
    from ray.util.state import list_actors

    actors = list_actors(ray.get_runtime_context().gcs_address, filters=[("state", "=", "ALIVE")], detail=True)
    return [{"pid": actor.pid} for actor in actors if "Evaluator" in actor.class_name]


def test_it_goes_on_where_it_was_stopped(
    asked: pool.EvaluationPass, undisturbed: pool.PassResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "KEPT_EVERY", 0.0)
    monkeypatch.setattr(pool, "KEPT_SHARE", 1e9)
    kept = tmp_path / "measured.npz"

    def stop(done: int, total: int, here: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run(asked, kept, stop)
    assert kept.is_file()
    said: list[tuple[int, int]] = []
    counted = pool.run(asked, kept, lambda done, total, here: said.append((done, here)))
    assert said[0][0] > 15 and said[-1] == (len(asked.numbers), len(asked.numbers) - counted.started)
    assert counted.started >= 15
    again = pool.run(replace(asked, subject=Blur(unopened="not needed")), kept, lambda *_: pytest.fail("done again"))
    assert again.started == again.done == len(asked.numbers) and values(again) == values(counted)
    assert values(counted) == pytest.approx(values(undisturbed), rel=1e-9)  # the moments are merged in other pieces
    assert counted.examples.kept.keys() == undisturbed.examples.kept.keys()


def test_what_is_not_finite_is_named(asked: pool.EvaluationPass) -> None:
    with pytest.raises(VitokError, match=r"not finite: photo-\d+\.jpg \(crop 4\)$"):
        pool.run(replace(asked, subject=Blur(wrong=float("inf"))), None, lambda *_: None)


def test_a_subject_that_cannot_be_opened_says_why(asked: pool.EvaluationPass) -> None:
    with pytest.raises(VitokError, match=r"^no weights here$"):
        pool.run(replace(asked, subject=Blur(unopened="no weights here")), None, lambda *_: None)


def test_samples_that_cannot_be_decoded_are_left_out_and_counted(asked: pool.EvaluationPass, broken_photos: Path) -> None:
    held = open_reader(open_corpora(str(broken_photos)), "all", tiny().data.model_copy(update={"validation_crops": 1, "pool": 0}), 32, 1)
    broken = replace(asked, reader=held, numbers=np.arange(sum(held.counts)), metrics=find_metrics(["rPSNR"]), batch=4)
    counted = pool.run(broken, None, lambda *_: None)
    assert {one.name for one in counted.rejected.found.values()} == {"cut.jpg", "empty.png", "text.webp"}
    assert counted.tally.seen.sum() == 12 and counted.done == 15
    assert np.isfinite(values(counted)["rPSNR"])


def test_what_decodes_does_not_load_torch(asked: pool.EvaluationPass) -> None:
    """Which takes seconds, in each of its processes."""
    held = replace(asked.reader, splits=())
    makes = [pool._decoded(held, asked.numbers, 0, 5), pool._drawn(0, 5, 40), encode._decode(held, range(0, 40, 5))]
    code = "import pickle, sys; made = pickle.load(sys.stdin.buffer); print([callable(make) for make in made], 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(makes), capture_output=True, check=True)
    assert found.stdout.split(b"\n")[0] == b"[True, True, True] False"
