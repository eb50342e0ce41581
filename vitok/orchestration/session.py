"""A session: the storage, the tracker, the console and the cluster of one command, each opened once."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from vitok.config.resources import TRIAL_SLOT
from vitok.console.progress import Progress
from vitok.errors import VitokError
from vitok.orchestration import capacity, preflight
from vitok.orchestration.capacity import Capacity, in_cluster
from vitok.storage.layout import Storage

if TYPE_CHECKING:
    from vitok.tracking.client import Tracker

SLOTS = 64  # trials that may each drive a worker group, of a Ray that is started on this machine


class Session:
    """The storage, tracker, console and cluster of one command. Nothing is opened before it is asked for, but the storage: a wrong one
    is told first."""

    def __init__(self, storage: str | Path | None = None) -> None:
        """Open the storage at a path or an address (default: VITOK_STORAGE, or ./runs). Raises `UsageError`, `VitokError`."""
        self.storage = Storage.open(storage)
        self.console = Progress()
        self._trackers: dict[str, Tracker] = {}

    def tracker(self, experiment: str) -> "Tracker":
        """Return the tracker of an experiment in MLflow: a study's name, "train" or "eval". Raises `VitokError`."""
        if experiment not in self._trackers:
            from vitok.tracking.client import Tracker  # seconds of imports

            self._trackers[experiment] = Tracker.open(self.storage, experiment)
        return self._trackers[experiment]

    @cached_property
    def capacity(self) -> Capacity:
        """The capacity of the cluster that is meant; connects to it, or starts Ray on this machine. Raises `VitokError`."""
        with core_silent():
            return connect(self.storage)

    @property
    def offered(self) -> Capacity | None:
        """The capacity of the cluster that RAY_ADDRESS names; None: this machine is meant, and no Ray needs to be started to know it."""
        return self.capacity if in_cluster() else None

    def say(self, text: str) -> None:
        """Show a line to who watches."""
        self.console.line(text)

    def warn_rejected(self, rejected: frozenset[str]) -> None:
        """Name the samples that could not be used, the first five of them."""
        if rejected:
            self.say(f"warning: {len(rejected)} sample(s) could not be used and were left out: " + "; ".join(sorted(rejected)[:5]))


def connect(storage: Storage | None) -> Capacity:
    """Connect to the cluster that is meant, or start Ray on this machine alone, once in a process; return its capacity.

    Raises `VitokError` where there is none, or where its nodes do not go together or do not reach the storage."""
    import ray

    # The state API, which Ray's own clean-up of placement groups needs, lives in the dashboard: never turn it off.
    options = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if ray.is_initialized():  # by the study before, of several
            pass
        elif in_cluster():
            _require_answer(os.environ["RAY_ADDRESS"])
            ray.init(address=os.environ["RAY_ADDRESS"], **options)
            if storage:
                preflight.check(storage.path)
        else:
            ray.init(address="local", include_dashboard=True, resources={TRIAL_SLOT: SLOTS}, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VitokError(f"Ray could not be reached or started: {' '.join(str(error).split())[:500]}") from None
    return capacity.measure()


def _require_answer(address: str) -> None:
    """Raise `VitokError` where nothing listens at RAY_ADDRESS: Ray itself takes minutes to say so."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise VitokError(
                f"no Ray cluster answers at RAY_ADDRESS {address}: {error}; correct it, or unset it to use this machine"
            ) from None


@contextmanager
def core_silent() -> Iterator[None]:
    """Keep Ray's core to its log files, if Ray is connected within. It would write to the terminal, past Python, of every pool of actors
    that none may be replaced (they are: `tests/evaluation/test_pool.py`), and that it was told to say less."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


@contextmanager
def results_apart() -> Iterator[None]:
    """Keep stdout for results: what Ray prints there of nodes and workers that die goes to stderr. Memory or disk that ran out raises
    `VitokError`."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:
        if text := _exhausted(error):
            raise VitokError(text) from None
        raise


def _exhausted(error: Exception) -> str:
    from ray.exceptions import ObjectStoreFullError, OutOfDiskError, OutOfMemoryError, RayTaskError

    cause: BaseException = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, OutOfDiskError):
        return "a node's disk is full, to which Ray moves what its object store cannot hold: make room there, or give Ray another folder"
    if isinstance(cause, ObjectStoreFullError):
        return "Ray's object store is full: give the nodes more (ray start --object-store-memory), or lower data.pool"
    if isinstance(cause, OutOfMemoryError):
        return "a node's memory was used up, and Ray ended the process that used most: raise resources.cpus_per_worker, for fewer at once"
    return ""
