"""What a cluster reports to, on this machine: MLflow's server over PostgreSQL, artifacts in an S3 store, which holds the storage too."""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.data import stores
from tests.data.stores import KEYS, process


@dataclass(frozen=True)
class Services:
    mlflow: str
    s3: str
    database: str

    @property
    def environment(self) -> dict[str, str]:
        """Of a driver and of the nodes."""
        return {**KEYS, "AWS_ENDPOINT_URL": self.s3, "MLFLOW_TRACKING_URI": self.mlflow}


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server of its own; the address of an empty database, over a socket that this user alone may open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR
        import pgserver

        server = pgserver.get_server(folder / "postgres", cleanup_mode="stop")
    try:
        server.psql("CREATE DATABASE mlflow;")
        yield server.get_uri("mlflow").replace("postgresql:", "postgresql+psycopg2:")
    finally:
        server.cleanup()


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
def services(folder: Path) -> Iterator[Services]:
    with stores.s3("runs", "artifacts") as s3, postgres(folder) as database:
        reach = KEYS | {"AWS_ENDPOINT_URL": s3, "MLFLOW_S3_ENDPOINT_URL": s3}
        with mlflow(database, "s3://artifacts/mlflow", os.environ | reach) as address:
            yield Services(address, s3, database)
