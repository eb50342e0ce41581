"""Locks: one process at a time in a folder of the storage."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from vitok.errors import VitokError
from vitok.storage import mirror
from vitok.storage.lease import leased

LOCK, HOLDER = ".lock", ".lock-holder"  # the lock of a folder; the id of the process that holds it


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder alone. The lock ends with the process, however that ends; a folder of a store has a lease, too.

    Raises `VitokError` while another process holds it: "process 7 is already running this study in ...", where `what` is "study".
    """
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / HOLDER
    try:
        lock = FileLock(folder / LOCK, blocking=False).acquire()
    except Timeout:
        process = holder.read_text() if holder.is_file() else "?"
        raise VitokError(f"process {process} is already running this {what} in {folder}: wait for it, or stop it") from None
    with lock:
        holder.write_text(str(os.getpid()))
        with leased(folder, what) if mirror.store_address(folder) else nullcontext():
            yield


@contextmanager
def queued(folder: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold a folder that several processes may want: one that comes second calls `busy`, then waits for its turn."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        busy()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
