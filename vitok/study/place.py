"""Where a study runs: which Ray, and which scale fits it."""

import fcntl
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from vitok.config.resources import TRIAL_SLOT
from vitok.data import mirror
from vitok.errors import UsageError, VitokError
from vitok.study.lease import leased
from vitok.study.study import Scale


@dataclass(frozen=True)
class Choice:
    scale: str
    reason: str


def choose(scales: dict[str, Scale], asked: str | None, offered: dict[str, float] | None) -> Choice:
    """The scale asked for, or the largest that fits. `offered` are a connected cluster's resources; without one this
    machine is looked at, and `paper` is never chosen."""
    if asked:
        if asked not in scales:
            raise UsageError(f"unknown scale {asked!r}; this study has {', '.join(scales)}")
        return Choice(asked, "asked for")
    if offered is not None:
        gpus = int(offered.get("GPU", 0))
        needed = scales["paper"].resources.workers if "paper" in scales else 0
        if needed and gpus >= needed:
            return Choice("paper", f"the cluster offers {gpus} GPUs, of which a trial takes {needed}")
        if gpus and "single-gpu" in scales:
            return Choice("single-gpu", f"the cluster offers {gpus} GPU(s), fewer than the {needed} of a trial at paper scale")
        return Choice("laptop", "the cluster offers no GPU")
    count = local_gpus()
    if count and "single-gpu" in scales:
        return Choice("single-gpu", f"this machine has {count} GPU(s); the paper's setting only by --scale paper")
    return Choice("laptop", "this machine has no GPU")


def local_gpus() -> int:
    """GPUs that CUDA would see, without importing torch (which takes seconds)."""
    import pynvml

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return 0
    return count if visible is None else min(count, len([part for part in visible.split(",") if part.strip() not in ("", "-1")]))


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


def in_cluster() -> bool:
    """Whether a running cluster is meant: `RAY_ADDRESS`, which `ray job submit` sets for its entrypoint too."""
    return bool(os.environ.get("RAY_ADDRESS"))


def connect(slots: int, storage: Path | None = None) -> dict[str, float]:
    """Connect to the cluster that is meant, or start Ray on this machine alone, once in a process. Its resources.

    Raises `VitokError` where there is none, or its nodes do not go together or do not reach the storage."""
    import ray

    from vitok.study import nodes

    # The state API, which Ray's own clean-up of placement groups needs, lives in the dashboard: never turn it off.
    options = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        if ray.is_initialized():  # by the study before, of several
            pass
        elif in_cluster():
            _answers(os.environ["RAY_ADDRESS"])
            ray.init(address=os.environ["RAY_ADDRESS"], **options)
            if storage:
                nodes.check(storage)
        else:
            ray.init(address="local", include_dashboard=True, resources={TRIAL_SLOT: slots}, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VitokError(f"Ray could not be reached or started: {' '.join(str(error).split())[:500]}") from None
    return nodes.offer().total


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


def require(need: dict[str, int], offered: dict[str, float]) -> None:
    """Raises `VitokError` for what a cluster does not have."""
    for name, amount in need.items():
        if amount > offered.get(name, 0):
            hint = {TRIAL_SLOT: """; start a node with --resources='{"trial_slot": 4}'""", "CPU": _CPUS}.get(name, "")
            raise VitokError(f"one run needs {amount} {name}, the cluster offers {offered.get(name, 0):g}{hint}")


_CPUS = " (resources.workers x resources.cpus_per_worker, and one to decode with unless data.pool is set)"


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """One process at a time in a folder. The lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise VitokError(f"process {lock.read() or '?'} is already running this {what} in {folder}: wait for it, or stop it") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        with leased(folder, what) if mirror.there(folder) else nullcontext():
            yield


@contextmanager
def in_turn(folder: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Likewise, for what several may want of one folder: who comes second waits, after a call of `busy`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            busy()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def copied(source: Path, target: Path) -> None:
    """A file that stays where another may be removed; whole when it is there."""
    if not mirror.exists(target):
        partial = target.with_name(target.name + ".partial")
        shutil.copyfile(source, partial)
        partial.replace(target)
        mirror.keep(target)
