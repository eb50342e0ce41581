"""Bad steps, hung ranks, machines that are taken away."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.recipes import RESOURCES, make_job, tiny
from tests.train.conftest import Curve, Run
from vitok.config import Recipe
from vitok.config.overrides import override
from vitok.errors import UsageError, VitokError
from vitok.storage.layout import RunFolder
from vitok.train import launch, worker_group
from vitok.train.ranks import Place
from vitok.train.reliability.bad_steps import SETTLED, StepHealth
from vitok.train.reliability.preemption import PreemptionNotice
from vitok.train.reliability.watchdog import name_hung_ranks
from vitok.train.tasks import inputs, tokenizer

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of batches whose noise is infinite: their loss and gradients are not finite."""
    bad: set[int] = set()
    drawn = inputs.draw_inputs

    def draw(batch, position, recipe, place):
        found = drawn(batch, position, recipe, place)
        return found._replace(noise=torch.full_like(found.noise, torch.inf)) if position in bad else found

    monkeypatch.setattr(tokenizer, "draw_inputs", draw)
    return bad


@pytest.mark.parametrize("zero", [0, 1, 3])
def test_a_bad_step_is_skipped_counted_and_its_batch_kept(run: Run, tmp_path: Path, poison: set[int], zero: int) -> None:
    poison.add(3)
    curve = Curve()
    run(tmp_path / "run", curve, resources=override(RESOURCES, {"zero": zero, "log_every": 1, "checkpoint_every": 1, "keep": 10}))
    assert list(curve.losses()) == [1, 2, 3, 5, 6, 7, 8] and all(np.isfinite(list(curve.losses().values())))
    assert curve.points[8]["health/skipped_steps"] == 1
    assert "step 4 skipped: the loss became nan" in curve.told() and "batch 3 of seed 0 is kept as" in curve.told()
    (kept,) = (tmp_path / "run" / "bad_batches").iterdir()
    assert np.load(kept)["images"].shape == (8, 32, 32, 3)
    from vitok.train.checkpoint.format import load

    before, after = (load(tmp_path / "run" / "checkpoints" / f"step_{step:08d}") for step in (3, 4))
    name, size = "decoder.from_latent.weight", 16 * 96
    for kind in ("weight", "exp_avg", "exp_avg_sq"):
        assert torch.equal(before.read("tokenizer", kind, name, 0, size), after.read("tokenizer", kind, name, 0, size))
    assert (before.updates["tokenizer"], after.updates["tokenizer"]) == (3, 3)


def test_bad_steps_in_a_row_lead_back_to_the_checkpoint_with_other_data(run: Run, tmp_path: Path, poison: set[int]) -> None:
    """And a run that is then stopped continues as this one went on."""
    poison |= {5, 6, 7}
    whole, before, after = Curve(), Curve(crash_at=14), Curve()
    recipe, resources = tiny(steps=16), override(RESOURCES, {"log_every": 1})
    run(tmp_path / "whole", whole, recipe, resources)
    assert "3 steps in a row were not finite" in whole.told() and "Back to step 4, with other data" in whole.told()
    assert whole.points[16]["health/retreats"] == 1 and list(whole.losses()) == list(range(1, 17))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", before, recipe, resources)
    assert run(tmp_path / "cut", after, recipe, resources).steps == 4
    assert {**before.losses(), **after.losses()} == whole.losses()
    # The batches after step 4 are those from number 8 on, behind the bad ones.
    poison.clear()
    again = Curve()
    run(tmp_path / "other", again, recipe, resources)
    assert again.losses()[4] == whole.losses()[4] and again.losses()[5] != whole.losses()[5]


def diverging() -> Recipe:
    """A recipe that no command line takes: its learning rate is beyond the bounds."""
    recipe = tiny()
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update={"lr": 1e30})})


@pytest.mark.parametrize("zero", [0, 2])
def test_a_run_that_never_recovers_ends_with_the_way_out(run: Run, tmp_path: Path, zero: int) -> None:
    with pytest.raises(VitokError, match=r"after 3 returns to step 0, 3 steps in a row.*(nan|inf).*lower optimizer\.lr"):
        run(tmp_path / "run", recipe=diverging(), resources=override(RESOURCES, {"zero": zero}))


def test_a_group_that_would_only_fail_again_passes_on_why(source: Any, states: Any, tmp_path: Path) -> None:
    """What a worker of a group does: Ray Train starts it again whatever ended it."""
    job = make_job(diverging(), RESOURCES, source, states, tmp_path, Curve())
    with pytest.raises(VitokError, match=r"lower optimizer\.lr"):
        worker_group.attempt(*job, Place())
    passed_on = worker_group.attempt(*job, Place())
    assert isinstance(passed_on, VitokError) and "lower optimizer.lr" in str(passed_on)


def test_no_worker_trains_on_a_cpu_where_a_gpu_was_asked_for(
    source: Any, states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither alone nor in a group, which would be started again for ever."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    job = make_job(tiny(), override(RESOURCES, {"gpus_per_worker": 1}), source, states, tmp_path, Curve())
    for begin in (lambda job: launch.run(*job), lambda job: worker_group.attempt(*job, Place())):
        with pytest.raises(UsageError, match="torch finds no usable GPU here: set it to 0"):
            begin(job)
    assert isinstance(worker_group.attempt(*job, Place()), VitokError)


def test_a_group_that_dies_again_and_again_without_getting_on_is_given_up(
    source: Any, states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_group, "STUCK", 3)

    def attempt(crash_at: int | None) -> Any:
        return worker_group.attempt(*make_job(tiny(), RESOURCES, source, states, tmp_path, Curve(crash_at)), Place())

    for crash_at in (2, 2, 6, 6, 6, 6):  # before and after the checkpoint of step 4
        with pytest.raises(KeyboardInterrupt):
            attempt(crash_at)
    with pytest.raises(VitokError, match="the workers were started 3 times at step 4"):
        attempt(None)


def test_spikes_are_told_from_noise() -> None:
    rng, health = np.random.default_rng(0), StepHealth()
    calm = [health.judge(float(loss), {}) for loss in 1 + 0.1 * rng.standard_normal(2000)]
    assert not any(text for _, text in calm)
    usual = health.mean
    assert usual == pytest.approx(1, abs=0.05)
    assert health.judge(2.5, {}) == (False, f"spike: the loss is 2.5, about {usual:.4g} until now")
    assert health.spikes == 1 and health.seen == 2001
    falling = StepHealth()
    assert not any(falling.judge(float(loss), {})[1] for loss in np.geomspace(10, 0.1, 4 * SETTLED))


def test_the_rank_that_holds_up_the_others_is_named() -> None:
    def beat(rank: int, step: int, phase: str, at: float = 1000.0) -> dict:
        return {"rank": rank, "host": f"node-{rank}", "pid": 70 + rank, "step": step, "phase": phase, "since": 900.0, "at": at}

    waiting = [beat(0, 7, "compute"), beat(2, 7, "compute")]
    assert (
        name_hung_ranks([*waiting, beat(1, 7, "data")], 60, 1000)
        == "hung: rank 1 on node-1 (process 71) has stood for 100 s in step 8, data"
    )
    assert "rank 1 on" in name_hung_ranks([*waiting, beat(1, 6, "checkpoint")], 60, 1000)
    stopped = name_hung_ranks([*waiting, beat(1, 7, "compute", at=930.0)], 60, 1000)
    assert stopped == "hung: rank 1 on node-1 (process 71) has given no sign of life for 70 s in step 8, compute"
    assert name_hung_ranks(waiting, 60, 1000).endswith("(all ranks alike)")


def test_a_hung_process_ends_itself_and_says_where(tmp_path: Path) -> None:
    """For real, in a process of its own; the next attempt finds out."""
    code = """
import sys, time
from pathlib import Path
from vitok.storage.layout import RunFolder
from vitok.train.reliability.timer import StepTimer
from vitok.train.engine.deepspeed import Place
from vitok.train.reliability.watchdog import Watchdog
clock = StepTimer()
watch = Watchdog(RunFolder(Path(sys.argv[1])), Place(), clock, 0.01)
clock.step = 4
with clock("data"):
    time.sleep(60)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 75
    assert "hung: rank 0" in ended.stderr and "step 5, data" in ended.stderr and "File" in ended.stderr  # the stack
    from vitok.train.reliability.timer import StepTimer
    from vitok.train.reliability.watchdog import Watchdog

    watch = Watchdog(RunFolder(tmp_path), Place(), StepTimer(), 10)
    assert "step 5, data" in (watch.earlier() or "") and watch.earlier() is None
    watch.close()


def test_the_clock_counts_each_moment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of the phase in which it is read."""
    from vitok.train.reliability import timer as module

    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    clock = module.StepTimer()
    with clock("compute"):
        now[0] += 2
    with clock("logging"):
        now[0] += 1
        assert clock.split(1) == {"time/compute": 2, "time/logging": 1, "time/step": 3}
        now[0] += 4
    now[0] += 8  # between two phases
    assert clock.split(2) == {"time/compute": 0, "time/logging": 2, "time/step": 6}


def test_a_long_evaluation_is_no_hang(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its batches is a sign of life."""
    from vitok.train.reliability.timer import StepTimer

    signs: list[str] = []
    monkeypatch.setattr(StepTimer, "alive", lambda self: signs.append(self.phase))
    run(tmp_path / "run", recipe=tiny(batch_size=1), resources=override(RESOURCES, {"evaluate_every": 4}))
    assert signs == ["evaluation"] * 4  # two held-out views, one by one, twice


@pytest.fixture
def metadata() -> Iterator[tuple[str, dict[str, str]]]:
    """A cloud's metadata service: answers what it is told to."""
    answers: dict[str, str] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in answers and (
                self.headers["X-aws-ec2-metadata-token"] == "t" or self.headers["Metadata-Flavor"] == "Google"
            )
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(answers.get(self.path, "").encode())

        def do_PUT(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"t")

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", answers
    server.shutdown()


@pytest.mark.parametrize(
    ("cloud", "path", "no", "yes"),
    [("aws", "/latest/meta-data/spot/instance-action", None, json.dumps({"action": "terminate"})),
     ("gcp", "/computeMetadata/v1/instance/preempted", "FALSE", "TRUE")],
)  # fmt: skip
def test_the_clouds_notice_is_seen(
    metadata: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, cloud: str, path: str, no: str | None, yes: str
) -> None:
    address, answers = metadata
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{address}/")
    monkeypatch.setenv("GCE_METADATA_HOST", address)
    monkeypatch.setattr("vitok.train.reliability.preemption.EVERY", 0.05)
    if no:
        answers[path] = no
    notice = PreemptionNotice(cloud)
    time.sleep(0.3)
    assert not notice.new
    answers[path] = yes
    ends = time.monotonic() + 10
    while not notice.reason and time.monotonic() < ends:
        time.sleep(0.02)
    notice.close()
    assert notice.new and not notice.stop
    notice.take()
    assert not notice.new


def test_a_run_that_must_go_leaves_a_checkpoint(run: Run, tmp_path: Path) -> None:
    """SIGTERM, as a scheduler sends it before it takes a node. The next run goes on from that very step."""

    class Leaving(Curve):
        def log(self, step: int, values: dict[str, float]) -> None:
            super().log(step, values)
            if step == 6:
                os.kill(os.getpid(), signal.SIGTERM)

    whole, leaving, after = Curve(), Leaving(), Curve()
    resources = override(RESOURCES, {"log_every": 1, "checkpoint_every": 1000})
    run(tmp_path / "whole", whole, resources=resources)
    with pytest.raises(VitokError, match=r"asked to stop \(SIGTERM\) at step 7; the same command goes on"):
        run(tmp_path / "cut", leaving, resources=resources)
    assert run(tmp_path / "cut", after, resources=resources).steps == 1
    assert {**leaving.losses(), **after.losses()} == whole.losses()
