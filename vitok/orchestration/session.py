"""Where a study runs: which Ray, and which scale fits it."""

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from vitok.config.resources import TRIAL_SLOT
from vitok.errors import UsageError, VitokError
from vitok.orchestration.preflight import in_cluster
from vitok.storage import mirror


def storage(asked: str | Path | None) -> Path:
    """Where everything is kept: `--storage`, `VITOK_STORAGE` or ./runs; made and tried. An absolute path, which stands for a store where
    an address is given (see `data.mirror`)."""
    path = mirror.here(str(asked or os.environ.get("VITOK_STORAGE") or "runs"))
    if "runtime_resources" in path.parts:
        raise UsageError(f"storage {path} is inside the copy of the code that Ray deletes with the job; set VITOK_STORAGE or --storage")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise VitokError(f"storage {path} cannot be written: {error.strerror}; give another with --storage or VITOK_STORAGE") from None
    mirror.identity(path)
    return path


def connect(slots: int, storage: Path | None = None) -> dict[str, float]:
    """Connect to the cluster that is meant, or start Ray on this machine alone, once in a process. Its resources.

    Raises `VitokError` where there is none, or its nodes do not go together or do not reach the storage."""
    import ray

    from vitok.orchestration import preflight

    # The state API, which Ray's own clean-up of placement groups needs, lives in the dashboard: never turn it off.
    options = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if ray.is_initialized():  # by the study before, of several
            pass
        elif in_cluster():
            _answers(os.environ["RAY_ADDRESS"])
            ray.init(address=os.environ["RAY_ADDRESS"], **options)
            if storage:
                preflight.check(storage)
        else:
            ray.init(address="local", include_dashboard=True, resources={TRIAL_SLOT: slots}, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VitokError(f"Ray could not be reached or started: {' '.join(str(error).split())[:500]}") from None
    return preflight.offer().total


def _answers(address: str) -> None:
    """Raises `VitokError` where nothing listens: Ray itself takes minutes to say so."""
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
    """Connect within it, and Ray's core keeps to its log files. It would say on the terminal, past Python, of every pool of actors
    that none may be replaced (they are: `tests/metrics/test_pool.py`), and that it was told to say less."""
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
    """Ray prints what it has to say of nodes and workers that die to stdout, which is for results: to stderr with it. What ran out raises
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
