"""Leases: one process at a time in a folder of an object store, which has no locks.

A process writes the file .lease and rewrites it every `EVERY` seconds. A process that comes second watches the file for `PATIENCE`
seconds: if the file does not change, its writer is dead and the lease is taken over. Of two processes that begin at the same moment, the
one that wrote last holds the lease.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitok.errors import RejectedError, VitokError
from vitok.storage import filesystem, mirror

EVERY, PATIENCE = 10.0, 25.0  # seconds between two renewals; without one, for what is left by a dead process
SETTLED = 1.0  # seconds after which a write is seen by all
NAME = ".lease"


class _Holder:
    """All leases of this process, renewed by one thread."""

    def __init__(self) -> None:
        self.identity = uuid.uuid4().hex
        self.held: set[str] = set()
        self.dead: set[str] = set()  # other processes that were found to be so
        self.count = 0
        self.thread: threading.Thread | None = None

    def write(self, uri: str) -> None:
        """Write, or renew, a lease."""
        self.count += 1
        lease = {"holder": self.identity, "host": socket.gethostname(), "process": os.getpid(), "renewed": self.count}
        filesystem.write(uri, json.dumps(lease).encode())

    def hold(self, uri: str) -> None:
        """Renew a lease from now on, until it is given back."""
        self.held.add(uri)
        if self.thread is None:
            self.thread = threading.Thread(target=self._renew, name="lease", daemon=True)
            self.thread.start()

    def _renew(self) -> None:
        while True:  # as long as the process
            time.sleep(EVERY)
            for uri in list(self.held):
                with suppress(VitokError):  # a store that is away for a while: the next renewal tells
                    self.write(uri)


_here = _Holder()


@contextmanager
def leased(folder: Path, what: str) -> Iterator[None]:
    """Hold the lease of a folder in a store for the length of the `with` block. Raise `VitokError` while another process holds the
    lease; `what` names the work in that message ("study")."""
    uri = filesystem.join(mirror.address_of(folder), NAME)
    other = _read(uri)
    if other and other["holder"] not in (_here.identity, *_here.dead):
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            time.sleep(min(1.0, EVERY / 10))
            seen = _read(uri)
            if not seen:  # it has come to its end
                break
            if seen != other:
                raise _busy(seen, folder, what)
        _here.dead.add(other["holder"])
    _here.write(uri)
    time.sleep(SETTLED if other else 0)
    if (seen := _read(uri)) and seen["holder"] != _here.identity:
        raise _busy(seen, folder, what)
    _here.hold(uri)
    try:
        yield
    finally:
        _here.held.discard(uri)
        with suppress(VitokError):
            if (seen := _read(uri)) and seen["holder"] == _here.identity:
                filesystem.remove(uri)


def _read(uri: str) -> dict[str, Any] | None:
    """Return the content of a lease file, or None where there is none or it is not valid JSON."""
    if filesystem.exists(uri) != "file":
        return None
    try:
        return json.loads(filesystem.read(uri))
    except (RejectedError, ValueError):  # removed in between, or of something else
        return None


def _busy(lease: dict[str, Any], folder: Path, what: str) -> VitokError:
    where = mirror.address_of(folder)
    return VitokError(f"process {lease['process']} on {lease['host']} is already running this {what} in {where}: wait for it, or stop it")
