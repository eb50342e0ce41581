"""Studies on a cluster of several nodes: where trials and decoding run, what is kept in a store, what is refused before it begins."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.nodes.machines import RAY, Cluster
from tests.nodes.services import Services, checkpoints, runs

pytestmark = pytest.mark.nodes
SMALL = ("--set", "grid.tokenizer.patch=8", "--set", "data.validation_crops=4", "--set", "resources.log_every=10",
         "--set", "resources.decode=cpu-nodes")  # fmt: skip
T = TypeVar("T")


def run(several: Cluster, reached: Services, study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return several(sys.executable, str(study), *arguments, **reached.environment)


def awaited(look: Callable[[], T], driver: subprocess.Popen[str], patience: float = 180) -> T:
    """What is looked for, once it is there."""
    ends = time.monotonic() + patience
    while not (found := look()):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < ends, "it never came"
        time.sleep(0.1)
    return found


def ended(driver: subprocess.Popen[str]) -> str:
    """What it printed as progress."""
    out, errors = driver.communicate(timeout=240)
    assert driver.returncode == 0, out + errors
    return errors


def test_a_sweep_goes_on_without_a_node(several: Cluster, reached: Services, study: Path) -> None:
    """Its trials spread over nodes that share no folder. One dies, with a trial that has a checkpoint: what the store has is all."""
    asked = ("--storage", "s3://runs/spread", *SMALL, "--set", "grid.tokenizer.channels=4,8,16,32", "--set", "data.pool=64",
             "--set", "steps=300", "--set", "resources.checkpoint_every=10")  # fmt: skip
    driver = several.started(sys.executable, str(study), *asked, **reached.environment)

    def resting() -> list[tuple[str, str]]:
        folders = ((cell, name) for cell, _ in checkpoints(reached, "spread") for name in ("one", "two"))
        return [(cell, name) for cell, name in folders if any(several.cache(name).glob(f"**/{cell}/checkpoints"))]

    cell, name = awaited(resting, driver)[0]
    several.machine(name).kill()
    died = time.monotonic()
    ended(driver)
    took = time.monotonic() - died
    trials = {actor["node_id"] for actor in several.state("actors") if actor["class_name"] == "ImplicitFunc"}
    assert len(trials) == 2
    several.add(name, 2, **reached.environment)
    found, there = runs(reached, "spread"), reached.keys("runs")
    assert len(found) == 4 and {"spread/e_sweep/report/index.html", "spread/e_sweep/report/e_sweep.svg"} <= there
    for one in found:
        assert {f"spread/cells/{one}/{file}" for file in ("tokenizer.safetensors", "recipe.json", "reconstructions.png")} <= there
    assert not any("/checkpoints/" in key for key in there)  # all are finished
    assert any("per_image.json" in key for key in reached.keys("artifacts"))
    assert found[cell].data.metrics["final/steps_this_attempt"] < 300
    print(f"\nthe sweep ended {took:.1f} s after a node's death; steps since: "
          f"{[run.data.metrics['final/steps_this_attempt'] for run in found.values()]}")  # fmt: skip


def test_a_group_goes_on_after_a_notice_and_after_a_death(several: Cluster, reached: Services, study: Path) -> None:
    """Two workers that fill a node each, ZeRO over gloo, checkpoints of both in the store, decoding beside them. One node is drained and
    told to go; then one dies. Each time another has come."""
    group = ("workers=2", "cpus_per_worker=2", "zero=1", "checkpoint_every=20")
    given = [part for one in group for part in ("--set", f"resources.{one}")]
    asked = ("--storage", "s3://runs/group", *SMALL, "--set", "grid.tokenizer.channels=4", "--set", "data.pool=0", "--set", "steps=500")
    leaving = several.identity("two")
    driver = several.started(sys.executable, str(study), *asked, *given, **reached.environment)
    awaited(lambda: checkpoints(reached, "group"), driver)
    drained = several(
        RAY, "drain-node", "--address", several.address, "--node-id", leaving, "--reason", "DRAIN_NODE_REASON_PREEMPTION",
        "--reason-message", "spot", "--deadline-remaining-seconds", "60",
    )  # fmt: skip
    assert drained.returncode == 0, drained.stderr
    at = awaited(lambda: [step for _, step in checkpoints(reached, "group") if step % 20], driver)[0]
    several.machine("two").stop()
    gone = time.monotonic()
    several.add("three", 2, **reached.environment)
    awaited(lambda: [step for _, step in checkpoints(reached, "group") if step > at], driver)
    again = time.monotonic() - gone
    several.machine("one").kill()
    gone, last = time.monotonic(), max(step for _, step in checkpoints(reached, "group"))
    several.add("four", 2, **reached.environment)
    print(ended(driver))
    (run,) = runs(reached, "group").values()
    assert run.data.metrics["final/steps_this_attempt"] == 500 - last
    workers = [actor["node_id"] for actor in several.state("actors") if actor["class_name"] == "RayTrainWorker"]
    assert len(set(workers)) == 4 and len(workers) == 6
    decoding = {task["node_id"] for task in several.state("tasks") if "Read" in task["name"] and task["node_id"]}
    assert decoding == {several.identity("decoder")}  # of both studies
    print(
        f"notice at step {at}: {again:.1f} s to the next checkpoint; death after step {last}: ended {time.monotonic() - gone:.1f} s later"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--scale", "single-gpu"), "one run needs 1 GPU, the cluster offers 0"),
        (("--set", "resources.cpus_per_worker=3"), "no node can ever hold one worker, which needs 3 CPU and 0 GPU at once"),
    ],
)
def test_what_no_node_can_hold_is_said_at_once(
    several: Cluster, reached: Services, study: Path, change: tuple[str, ...], said: str
) -> None:
    ended = run(several, reached, study, "--storage", "s3://runs/never", *SMALL, "--seeds", "7", *change)
    assert ended.returncode == 1 and ended.stderr.splitlines()[-1].startswith("error: ") and said in ended.stderr
    assert "Traceback" not in ended.stderr


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
    for stranger in strangers:
        stranger.kill()
        several.machines.remove(stranger)
    assert told.returncode == 1 and told.stderr.count("error: ") == 1 and "Traceback" not in told.stderr
    assert "vitok 0.0.9; this process has" in told.stderr and "does not reach storage s3://runs/apart: " in told.stderr
    rows = told.stdout.splitlines()
    assert sum("0.0.9" in row for row in rows) == 1 and sum(row.rstrip().endswith("no") for row in rows) == 1, told.stdout
    assert sum(row.rstrip().endswith("yes") for row in rows) == 5, told.stdout
