"""Studies on a cluster of several nodes: where trials and decoding run, what is kept in a store, what is refused before it begins."""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.nodes.machines import RAY, Cluster
from tests.nodes.services import Services, began, checkpoints, lost, notices, runs

pytestmark = [pytest.mark.nodes, pytest.mark.timeout(900)]
SMALL = ("--set", "grid.tokenizer.patch=8", "--set", "batch_size=4", "--set", "loss.lpips=0", "--set", "data.validation_crops=4",
         "--set", "resources.metrics=rPSNR", "--set", "resources.log_every=10", "--set", "resources.decode=cpu-nodes")  # fmt: skip
T = TypeVar("T")


def awaited(look: Callable[[], T], driver: subprocess.Popen[str], patience: float = 300) -> T:
    """What is looked for, once it is there."""
    ends = time.monotonic() + patience
    while not (found := look()):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.1)
    return found


def ended(driver: subprocess.Popen[str]) -> str:
    """What it printed as progress."""
    out, errors = driver.communicate(timeout=400)
    assert driver.returncode == 0, out + errors
    return errors


def test_a_sweep_goes_on_without_its_nodes(several: Cluster, reached: Services, study: Path) -> None:
    """Its trials spread over nodes that share no folder: the store has all there is. One node is told to go (SIGTERM), one dies (SIGKILL),
    each with a trial that has a checkpoint. Others come."""
    asked = ("--storage", "s3://runs/spread", *SMALL, "--set", "grid.tokenizer.channels=4,8,16,32", "--set", "data.pool=64",
             "--set", "steps=400", "--set", "resources.checkpoint_every=20")  # fmt: skip
    both = {several.identity("one"), several.identity("two")}
    driver = several.started(sys.executable, str(study), *asked, **reached.environment)

    def resting(node: str) -> list[str]:
        return [cell for cell, _ in checkpoints(reached, "spread") if any(several.cache(node).glob(f"**/{cell}/checkpoints"))]

    going = awaited(lambda: resting("one"), driver)
    told = time.time()
    with ThreadPoolExecutor(1) as aside:
        leaving = aside.submit(several.machine("one").stop)
        notice = awaited(lambda: [one for one in notices(reached, "spread") if one[0] in going], driver)[0]
        heard = time.time()
        dying = awaited(lambda: resting("two"), driver)[0]
        several.machine("two").kill()
        died = time.time()
        leaving.result()
    several.add("one", 2, **reached.environment)
    several.add("two", 2, **reached.environment)
    ended(driver)
    took = time.time() - died
    assert both < {actor["node_id"] for actor in several.state("actors") if actor["class_name"] == "ImplicitFunc"}
    found, there = runs(reached, "spread"), reached.keys("runs")
    assert len(found) == 4 and {"spread/e_sweep/report/index.html", "spread/e_sweep/report/e_sweep.svg"} <= there
    for one in found:
        assert {f"spread/cells/{one}/{file}" for file in ("tokenizer.safetensors", "recipe.json", "reconstructions.png")} <= there
    assert not any("/checkpoints/" in key for key in there)  # all are finished
    assert any("per_image.json" in key for key in reached.keys("artifacts"))
    assert began(found[notice[0]]) >= notice[1]
    assert began(found[dying]) > 0 and lost(reached, found[dying], died) <= 60, "two checkpoints' distance, and one that was being written"
    print(f"\nnotice: a checkpoint of step {notice[1]} {heard - told:.1f} s later, gone on with at {began(found[notice[0]])}\n"
          f"death: gone on with at step {began(found[dying])}, {lost(reached, found[dying], died)} steps repeated\n"
          f"both nodes replaced, the sweep ended {took:.0f} s later")  # fmt: skip


def test_a_group_goes_on_after_a_notice_and_after_a_death(several: Cluster, reached: Services, study: Path) -> None:
    """Two workers that fill a node each, ZeRO over gloo, checkpoints of both in the store, decoding beside them. One node is drained and
    told to go; then one dies. Each time another has come."""
    group = ("workers=2", "cpus_per_worker=2", "zero=1", "checkpoint_every=20")
    given = [part for one in group for part in ("--set", f"resources.{one}")]
    asked = ("--storage", "s3://runs/group", *SMALL, "--set", "grid.tokenizer.channels=4", "--set", "data.pool=0", "--set", "steps=400")
    leaving = several.identity("two")
    driver = several.started(sys.executable, str(study), *asked, *given, **reached.environment)
    awaited(lambda: checkpoints(reached, "group"), driver)
    drained = several(
        RAY, "drain-node", "--address", several.address, "--node-id", leaving, "--reason", "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message", "spot", "--deadline-remaining-seconds", "60",
    )  # fmt: skip
    assert drained.returncode == 0, drained.stderr
    at = awaited(lambda: [step for _, step in notices(reached, "group")], driver)[0]
    several.machine("two").stop()
    gone = time.monotonic()
    several.add("three", 2, **reached.environment)
    awaited(lambda: [step for _, step in checkpoints(reached, "group") if step > at], driver)
    again = time.monotonic() - gone
    several.machine("one").kill()
    gone, when, last = time.monotonic(), time.time(), max(step for _, step in checkpoints(reached, "group"))
    several.add("four", 2, **reached.environment)
    ended(driver)
    (run,) = runs(reached, "group").values()
    assert began(run) >= last and lost(reached, run, when) <= 60
    workers = {actor["node_id"] for actor in several.state("actors") if actor["class_name"] == "RayTrainWorker"}
    assert len(workers - {None}) == 4  # None: of one that waited for a node
    decoding = {task["node_id"] for task in several.state("tasks") if "Read" in task["name"] and task["node_id"]}
    assert decoding == {several.identity("decoder")}  # of both studies
    print(f"\nnotice: a checkpoint of step {at}, the next one {again:.1f} s after the node had gone\n"
          f"death: gone on with at step {began(run)}, {lost(reached, run, when)} steps repeated, ended {time.monotonic() - gone:.0f} s "
          "later")  # fmt: skip


def test_what_no_node_can_hold_is_said_at_once(several: Cluster, reached: Services, study: Path) -> None:
    asked = ("--storage", "s3://runs/never", *SMALL, "--seeds", "7", "--set", "resources.cpus_per_worker=3")
    ended = several(sys.executable, str(study), *asked, **reached.environment)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("error: no node can ever hold one worker, which needs 3 CPU and 0 GPU at once")


def test_a_database_file_is_refused(several: Cluster, reached: Services, study: Path, tmp_path: Path) -> None:
    environment = reached.environment | {"MLFLOW_TRACKING_URI": ""}
    ended = several(sys.executable, str(study), "--storage", str(tmp_path / "runs"), *SMALL, **environment)
    assert ended.returncode == 1 and "a file, which the nodes of a cluster cannot share: start `mlflow server`" in ended.stderr


def test_nodes_that_do_not_go_together_are_named(several: Cluster, reached: Services, tmp_path: Path) -> None:
    """One with another vitok, and one that reaches another store under the same address."""
    import vitok

    older = tmp_path / "older" / "vitok"
    older.mkdir(parents=True)
    for path in Path(vitok.__file__).parent.iterdir():
        if path.name not in ("__init__.py", "__pycache__"):
            (older / path.name).symlink_to(path)
    (older / "__init__.py").write_text('__version__ = "0.0.9"\n')
    strangers = [
        several.add("older", 1, **reached.environment, PYTHONPATH=str(older.parent)),
        several.add("elsewhere", 1, **reached.environment | {"AWS_ENDPOINT_URL": reached.mlflow}),
    ]
    command = str(Path(sys.executable).with_name("vitok"))
    told = several(command, "doctor", "--cluster", "--storage", "s3://runs/apart", **reached.environment)
    ingest = several(command, "data", "ingest", "sample-photos", "s3://runs/apart/photos", **reached.environment)
    assert ingest.returncode == 1 and "vitok 0.0.9" in ingest.stderr and "does not reach s3://runs/apart/photos" in ingest.stderr
    nodes = len(several.workers()) + 1
    for stranger in strangers:
        stranger.kill()
        several.machines.remove(stranger)
    assert told.returncode == 1 and told.stderr.count("error: ") == 1 and "Traceback" not in told.stderr
    assert "vitok 0.0.9; this process has" in told.stderr and "does not reach s3://runs/apart: " in told.stderr
    rows = told.stdout.splitlines()
    assert sum("0.0.9" in row for row in rows) == 1 and sum(row.rstrip().endswith("no") for row in rows) == 1, told.stdout
    assert sum(row.rstrip().endswith("yes") for row in rows) == nodes - 1, told.stdout
