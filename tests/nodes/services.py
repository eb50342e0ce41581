"""What a cluster reports to, on this machine: MLflow's server over PostgreSQL, artifacts in an S3 store, which holds the storage too."""

import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.storage import stores
from tests.storage.stores import KEYS, process


@dataclass(frozen=True)
class Services:
    mlflow: str
    s3: str

    @property
    def environment(self) -> dict[str, str]:
        """Of a driver and of the nodes."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.s3, "MLFLOW_TRACKING_URI": self.mlflow}

    def keys(self, bucket: str) -> set[str]:
        """Of what lies in the store."""
        pages = stores.client(self.s3).get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}


@contextmanager
def postgres() -> Iterator[str]:
    """A server of its own; the address of an empty database, over a socket in a folder of its own: root's server runs as another user, whom
    pytest's next session would keep out of its folders."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR
        import pgserver

        folder = Path(tempfile.mkdtemp(prefix="vtpg", dir="/tmp"))
        server = pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        server.psql("CREATE DATABASE mlflow;")
        yield server.get_uri("mlflow").replace("postgresql:", "postgresql+psycopg2:")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def mlflow(database: str, artifacts: str, environment: dict[str, str], workers: int = 2) -> Iterator[str]:
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "PORT", "--workers", str(workers),
        "--backend-store-uri", database, "--artifacts-destination", artifacts,
    ]  # fmt: skip
    # Job execution is processes for what is not asked of the server.
    with process(command, environment | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}, patience=120) as address:
        yield address


@contextmanager
def services() -> Iterator[Services]:
    with stores.s3("runs", "artifacts") as s3, postgres() as database:
        reach = KEYS | {"AWS_ENDPOINT_URL": s3, "MLFLOW_S3_ENDPOINT_URL": s3}
        with mlflow(database, "s3://artifacts/mlflow", os.environ | reach) as address:
            yield Services(address, s3)


def checkpoints(reached: Services, folder: str) -> list[tuple[str, int]]:
    """(cell, step) of those that are whole."""
    found = (re.fullmatch(rf"{folder}/cells/(\w+)/checkpoints/step_(\d+)/state.json", key) for key in reached.keys("runs"))
    return [(one[1], int(one[2])) for one in found if one]


def notices(reached: Services, folder: str) -> list[tuple[str, int]]:
    """(cell, step) of checkpoints that were taken because a machine was told to go, as the news of the runs say."""
    client, found = MlflowClient(reached.mlflow), list[tuple[str, int]]()
    for key in sorted(reached.keys("artifacts")):
        if not key.endswith("/artifacts/news.txt"):
            continue
        tags = client.get_run(key.split("/")[-3]).data.tags
        if not tags.get("vitok.folder", "").startswith(f"s3://runs/{folder}/"):
            continue
        news = stores.client(reached.s3).get_object(Bucket="artifacts", Key=key)["Body"].read().decode()
        steps = re.findall(r"a machine will be taken away .*: there is a checkpoint of step (\d+)", news)
        found += [(tags["vitok.cell"], int(step)) for step in steps]
    return found


def runs(reached: Services, folder: str) -> dict[str, Run]:
    """By cell. Each has every point of its curve once."""
    client = MlflowClient(reached.mlflow)
    experiment = client.get_experiment_by_name("e_sweep")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`vitok.folder` LIKE 's3://runs/{folder}/%'")
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        total = int(run.data.params["steps"])
        assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == list(range(10, total + 1, 10))
    return {run.data.tags["vitok.cell"]: run for run in found}


def began(run: Run) -> int:
    """The step from which the last attempt went on."""
    return int(run.data.params["steps"]) - int(run.data.metrics["final/steps_this_attempt"])


def lost(reached: Services, run: Run, died: float) -> int:
    """Steps that had been logged when a node died (seconds since 1970), but not kept: the last attempt has repeated them."""
    points = MlflowClient(reached.mlflow).get_metric_history(run.info.run_id, "train/loss")
    return max(0, max(point.step for point in points if point.timestamp < died * 1000) - began(run))
