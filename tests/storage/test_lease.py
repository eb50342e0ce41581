"""Two processes and one folder of a store."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import both
from vitok.errors import VitokError
from vitok.storage import filesystem, lease, locks, mirror

HOLDS = """
import sys, time
from vitok.storage import mirror
from vitok.storage import lease
lease.EVERY = 0.2
with lease.leased(mirror.local_path(sys.argv[1]), "study"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(stored: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lease, "EVERY", 0.2)
    monkeypatch.setattr(lease, "_here", lease._Holder())  # another's thread sleeps for as long as it did before
    monkeypatch.setattr(lease, "PATIENCE", 3.0)
    return stored


@both
def test_who_comes_second_is_told_who_is_there_and_follows_a_dead_one(folder: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDS, mirror.address_of(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(VitokError, match=f"process {other.pid} on .* is already running this study in ..://runs/"), \
            locks.exclusive(folder, "study"):  # fmt: skip
            pass
    finally:
        other.kill()
        other.wait()
    began = time.monotonic()
    with locks.exclusive(folder, "study"):  # what it has left does not hold up anybody for long
        assert time.monotonic() - began > 2
        uri = filesystem.join(mirror.address_of(folder), lease.NAME)
        before = filesystem.read(uri)
        time.sleep(1)
        assert filesystem.read(uri) != before  # renewed
    assert filesystem.exists(uri) is None
    with locks.exclusive(folder, "study"):  # at once
        pass
