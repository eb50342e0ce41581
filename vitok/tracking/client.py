"""The client of MLflow: an experiment a study, a parent run a sweep, a child run a cell."""

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import vitok
from vitok.analysis.rows import Row
from vitok.errors import UsageError, VitokError
from vitok.storage import mirror
from vitok.storage.layout import RunFolder, Storage
from vitok.study.labels import with_labels
from vitok.tracking.tags import PROTOCOL

# An absent server must be an error after seconds, not after minutes of retries.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus, RunTag
from mlflow.exceptions import MlflowException

from vitok.tracking.rows import row_of, rows_by_length, version
from vitok.tracking.tags import CELL, CELLS, CORPUS, ERROR, FOLDER, SCALE, STUDY, SWEEP, VERSION

logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # the making of a database is no news

MOST_PARAMS = 100  # that MLflow takes at once


def address(storage: Path) -> str:
    """Return the address of MLflow: MLFLOW_TRACKING_URI, or a database in the storage. Raises `UsageError` where the storage lies in an
    object store, which cannot hold a database."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if not given and mirror.store_address(storage):
        raise UsageError(
            f"storage {mirror.address_of(storage)} cannot hold MLflow's database: set MLFLOW_TRACKING_URI to the address of a server"
        )
    return given or f"sqlite:///{storage / 'mlflow.db'}"


class Tracker:
    """An experiment in MLflow: the runs of a study, or those by themselves ("train", "eval"). Raises `VitokError` with one line if the
    server cannot be reached."""

    def __init__(self, uri: str, storage: Path, study: str) -> None:
        self.uri = uri
        mlflow.set_tracking_uri(uri)  # artifact locations are resolved against it
        try:
            self.client = MlflowClient(uri)
            self.experiment = self._experiment(storage, study)
        except Exception as error:  # requests, SQLAlchemy and MLflow each have their own
            first = redact(str(error).strip().splitlines()[0])
            raise VitokError(
                f"MLflow at {redact(uri)} cannot be used: {first[:300]}. Start it, correct MLFLOW_TRACKING_URI, "
                "or unset it to use a database beside the storage"
            ) from None

    @classmethod
    def open(cls, storage: Storage, experiment: str) -> "Tracker":
        """Open an experiment of the MLflow that MLFLOW_TRACKING_URI names, or of the storage's own database. Raises `VitokError`."""
        return cls(address(storage.path), storage.path, experiment)

    def _experiment(self, storage: Path, study: str) -> str:
        """Return the id of the experiment, made if it is not there. Another process may make it at this very moment."""
        local = self.uri.startswith("sqlite:")  # a server decides itself where its artifacts go
        where = (storage / "mlflow-artifacts" / study).as_uri() if local else None
        known = self.client.get_experiment_by_name(study)
        if known is None:
            try:
                return self.client.create_experiment(study, artifact_location=where)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                known = self.client.get_experiment_by_name(study)
                assert known is not None
        return known.experiment_id

    def sweep(self, key: str, tags: dict[str, str], cells: Iterable[str]) -> str:
        """Return the id of a sweep's run, made once. Cells of earlier calls (other seeds) stay part of it, unless the corpus under its name
        has changed since."""
        run = self.find_sweep(key)
        if run is None:
            run = self.client.create_run(self.experiment, tags={SWEEP: key, **tags}, run_name=f"{tags[STUDY]} {tags[SCALE]}")
        known = run.data.tags.get(CELLS, "").split() if run.data.tags[CORPUS] == tags[CORPUS] else []
        tags = {**tags, CELLS: " ".join(dict.fromkeys([*known, *cells]))}
        self.client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self.client.update_run(run.info.run_id, status="RUNNING")
        return run.info.run_id

    def find_sweep(self, key: str) -> Run | None:
        """Return the run of the sweep with this key; None where it was never run."""
        found = self._search(f"tags.`{SWEEP}` = '{key}'")
        return found[0] if found else None

    def tag_sweep(self, key: str, tags: dict[str, str]) -> None:
        """Set tags of the sweep with this key, which is there."""
        run = self.find_sweep(key)
        assert run is not None
        self.client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def find_run(self, run_id: str) -> Run | None:
        """Return a run of any experiment; None where there is no such run."""
        try:
            return self.client.get_run(run_id)
        except MlflowException:
            return None

    @property
    def address(self) -> str:
        """The address of MLflow, without passwords."""
        return redact(self.uri)

    def finished(self, cells: Iterable[str], any_version: bool = False) -> dict[str, Run]:
        """Return the finished runs of cells, by cell, whichever study they were run for: those of this version of vitok; with `any_version`
        those of other versions, too, where this one has none."""
        wanted = set(cells)
        runs = [run for run in self._cells("attributes.status = 'FINISHED' AND ") if run.data.tags[CELL] in wanted]
        by_this = {run.data.tags[CELL]: run for run in runs if version(run) == vitok.__version__}
        return ({run.data.tags[CELL]: run for run in runs} if any_version else {}) | by_this

    def weights(self, cells: Iterable[str]) -> dict[str, Path]:
        """Return the weights of tokenizers, by cell, of whatever study: cells that this version of vitok finished, whose weights still lie
        where they were left."""
        wanted, runs_of = set(cells), dict[str, list[Run]]()
        for run in self._cells("attributes.status = 'FINISHED' AND ") if wanted else ():
            if version(run) == vitok.__version__:
                runs_of.setdefault(run.data.tags[CELL], []).append(run)
        found: dict[str, Path] = {}
        for cell in wanted:
            runs = runs_of.get(cell, [])
            folders = [RunFolder.at(run.data.tags[FOLDER]) for run in runs if FOLDER in run.data.tags]
            if there := [folder.file(folder.TOKENIZER) for folder in folders if folder.has(folder.TOKENIZER)]:
                found[cell] = there[0]
        return found

    def states(self, cells: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the state of each cell that was ever begun: "status" (finished, begun, failed, open), and its metrics or its error."""
        wanted, names = set(cells), {"FINISHED": "finished", "RUNNING": "begun", "FAILED": "failed", "SCHEDULED": "open"}
        found: dict[str, dict[str, Any]] = {}
        for run in self._cells():
            cell = run.data.tags[CELL]
            if cell in wanted and found.get(cell, {}).get("status") != "finished":
                state: dict[str, Any] = {"status": names.get(run.info.status, run.info.status.lower()), "run_id": run.info.run_id}
                state["study"] = run.data.tags.get(STUDY)
                state |= {name.removeprefix("final/"): v for name, v in run.data.metrics.items() if name.startswith("final/")}
                if state["status"] == "failed":
                    state["error"] = run.data.tags.get(ERROR, "unknown")
                found[cell] = state
        return found

    def every_state(self) -> dict[str, str]:
        """Return the status of every cell of all studies: "finished" where any run of the cell is."""
        return {cell: state["status"] for cell, state in self.states({run.data.tags[CELL] for run in self._cells()}).items()}

    def child(self, parent: str | None, cell: str, name: str, tags: dict[str, str], params: dict[str, Any]) -> str:
        """Return the id of a cell's run, under a sweep's run or by itself: the unfinished one of an earlier attempt, or a new one."""
        found = [
            run for run in self._cells("attributes.status != 'FINISHED' AND ", cell)
            if version(run) == vitok.__version__ and run.data.tags.get(FOLDER) == tags.get(FOLDER)
        ]  # fmt: skip
        if found:
            run_id = found[0].info.run_id
            self.client.update_run(run_id, status="SCHEDULED")  # until its trial logs
            return run_id
        tags = {CELL: cell, VERSION: vitok.__version__, **({"mlflow.parentRunId": parent} if parent else {}), **tags}
        run_id = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
        each = [Param(key, str(value)) for key, value in params.items()]
        for first in range(0, len(each), MOST_PARAMS):
            self.client.log_batch(run_id, params=each[first : first + MOST_PARAMS])
        self.client.update_run(run_id, status="SCHEDULED")
        return run_id

    def last_step(self, run_id: str) -> int:
        """Return the last step for which a run's curves have a point; -1 for none."""
        return max((point.step for point in self.client.get_metric_history(run_id, "train/loss")), default=-1)

    def log(self, run_id: str, values: dict[str, float], step: int, when: float | None = None) -> None:
        """Log the values of a step, with the time now, or `when` (seconds since 1970)."""
        at = int((when or time.time()) * 1000)
        self.client.log_batch(run_id, metrics=[Metric(key, value, at, step) for key, value in values.items()])

    def add_metrics(self, folder: Path, corpus: str, values: dict[str, float], tags: dict[str, str]) -> list[str]:
        """Add the metrics that it lacks to the run whose weights lie in `folder`, if they were measured on its own corpus. Return their
        names."""
        experiments = [one.experiment_id for one in self.client.search_experiments()]
        runs = self.client.search_runs(experiments, f"tags.`{FOLDER}` = '{mirror.address_of(folder)}' AND attributes.status = 'FINISHED'")
        runs = [run for run in runs if run.data.tags.get(CORPUS) == corpus and run.data.tags.get(STUDY) != "eval"]
        if not runs:
            return []
        run = runs[0]
        lacking = [tag.removeprefix(PROTOCOL) for tag in tags if tag.startswith(PROTOCOL) and tag not in run.data.tags]
        if lacking:
            self.client.log_batch(run.info.run_id, tags=[RunTag(f"{PROTOCOL}{name}", tags[f"{PROTOCOL}{name}"]) for name in lacking])
            self.log(run.info.run_id, {f"final/{name}": values[name] for name in lacking}, 0)
        return lacking

    def add_news(self, run_id: str, lines: str) -> None:
        """Append lines to a run's artifact news.txt."""
        there = {item.path for item in self.client.list_artifacts(run_id)}  # to ask for one that is not there takes its retries
        before = (self.artifact(run_id, "news.txt") or b"") if "news.txt" in there else b""
        self.client.log_text(run_id, before.decode() + lines, "news.txt")

    def begin(self, run_id: str) -> None:
        """Mark a run as running."""
        self.client.update_run(run_id, status="RUNNING")

    def finish(self, run_id: str, values: dict[str, float], step: int, artifacts: dict[str, bytes], tags: dict[str, str]) -> None:
        """Log all that a finished run leaves, the status last: a run that is FINISHED is complete."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in artifacts.items():
                Path(folder, name).write_bytes(content)
            self.client.log_artifacts(run_id, folder)
        self.client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        self.log(run_id, {f"final/{name}": value for name, value in values.items()}, step)
        self.client.set_terminated(run_id, "FINISHED")

    def fail(self, run_id: str, reason: str) -> None:
        """Mark a run as failed, and keep why."""
        self.client.set_tag(run_id, ERROR, reason)
        self.client.set_terminated(run_id, "FAILED")

    def close(self, run_id: str, finished: bool) -> None:
        """End a sweep's run: finished, or stopped before all of its cells were."""
        self.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED if finished else RunStatus.KILLED))

    def rows(self, runs: Iterable[Run]) -> list[Row]:
        """Return rows of results: params and final metrics of the runs of cells or of evaluations, with labels that tell them apart."""
        return with_labels([row for run in runs for row in rows_by_length(row_of(run))])

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """Return the content of a run's artifact; None where there is none."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Path(self.client.download_artifacts(run_id, name, folder)).read_bytes()
            except (MlflowException, OSError):
                return None

    def _cells(self, also: str = "", cell: str = "") -> list[Run]:
        """Return the runs of cells, of all studies."""
        return self._search(f"{also}tags.`{CELL}` " + (f"= '{cell}'" if cell else "!= ''"), everywhere=True)

    def _search(self, query: str, everywhere: bool = False) -> list[Run]:
        found: list[Run] = []
        token: str | None = None
        where = [one.experiment_id for one in self.client.search_experiments()] if everywhere else [self.experiment]
        while True:
            page = self.client.search_runs(where, query, max_results=1000, order_by=["start_time ASC"], page_token=token)
            found += page
            token = page.token
            if not token:
                return found


def redact(uri: str) -> str:
    """Return a text without the passwords that addresses in it may carry."""
    return re.sub(r"://[^/@\s]*@", "://***@", uri)
