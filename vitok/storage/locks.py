"""Locks: one process at a time in a folder of the storage."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from vitok.errors import VitokError
from vitok.storage import mirror
from vitok.storage.lease import leased


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
