"""Studies on a cluster of several nodes: where trials and decoding run, what is kept in a store, what is refused before it begins."""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient

from tests.nodes.machines import Cluster
from tests.nodes.services import Services

pytestmark = pytest.mark.nodes
SMALL = ("--set", "steps=20", "--set", "grid.tokenizer.patch=8", "--set", "data.pool=64", "--set", "data.validation_crops=4")
WHERE = """
import json
from ray.util.state import list_actors, list_tasks
names = {"trials": "ImplicitFunc", "workers": "RayTrainWorker", "decoding": "Read"}
found = [(one.class_name, one.node_id) for one in list_actors(detail=True, limit=1000)]
found += [(one.name, one.node_id) for one in list_tasks(detail=True, limit=5000)]
print(json.dumps({kind: sorted({node for one, node in found if name in one and node}) for kind, name in names.items()}))
"""


def where(several: Cluster) -> dict[str, list[str]]:
    """Nodes on which trials, workers of groups and decoding were, since the cluster began."""
    told = several(sys.executable, "-c", WHERE)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def keys(reached: Services, bucket: str) -> set[str]:
    client = boto3.client("s3", endpoint_url=reached.s3, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
    return {entry["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket) for entry in page.get("Contents", [])}


def run(several: Cluster, reached: Services, study: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return several(sys.executable, str(study), *arguments, **reached.environment)


def test_trials_spread_and_all_is_kept_in_the_store(several: Cluster, reached: Services, study: Path) -> None:
    """No node shares a folder with another here: what is not kept in the store is not there."""
    asked = ("--storage", "s3://runs/spread", *SMALL, "--set", "grid.tokenizer.channels=4,8,16,32", "--set", "resources.decode=cpu-nodes")
    ended = run(several, reached, study, *asked)
    assert ended.returncode == 0, ended.stderr
    there = keys(reached, "runs")
    assert "spread/e_sweep/report/index.html" in there and "spread/e_sweep/report/e_sweep.svg" in there
    cells = {key.split("/")[2] for key in there if key.startswith("spread/cells/")}
    assert len(cells) == 4
    for cell in cells:
        assert {f"spread/cells/{cell}/{name}" for name in ("tokenizer.safetensors", "recipe.json", "reconstructions.png")} <= there
    assert not any("/checkpoints/" in key for key in there)  # all are finished
    client = MlflowClient(reached.mlflow)
    experiment = client.get_experiment_by_name("e_sweep")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`vitok.cell` != ''")
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 4
    assert {run.data.tags["vitok.folder"] for run in runs} == {f"s3://runs/spread/cells/{cell}" for cell in cells}
    assert any("per_image.json" in key for key in keys(reached, "artifacts"))


def test_a_group_trains_over_two_nodes(several: Cluster, reached: Services, study: Path) -> None:
    """Two workers that fill a node each, ZeRO over gloo, checkpoints of both in the store; decoding beside them."""
    asked = ("--storage", "s3://runs/group", "--set", "steps=20", "--set", "grid.tokenizer.patch=8", "--set", "grid.tokenizer.channels=4")
    group = ("workers=2", "cpus_per_worker=2", "zero=1", "checkpoint_every=5", "decode=cpu-nodes")
    given = [part for one in group for part in ("--set", f"resources.{one}")]
    ended = run(several, reached, study, *asked, *given, "--set", "data.pool=0", "--set", "data.validation_crops=4")
    assert ended.returncode == 0, ended.stderr
    nodes = where(several)
    assert len(nodes["workers"]) == 2 and len(nodes["trials"]) >= 2
    assert len(nodes["decoding"]) == 1 and nodes["decoding"][0] not in nodes["workers"]  # of both studies
    assert any(key.startswith("group/cells/") and key.endswith("tokenizer.safetensors") for key in keys(reached, "runs"))


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
