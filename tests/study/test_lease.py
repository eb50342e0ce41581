"""Two processes and one folder of a store."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.stores import KEYS, s3
from vitok.data import files, mirror
from vitok.errors import VitokError
from vitok.study import lease, place

HOLDS = """
import sys, time
from vitok.data import mirror
from vitok.study import lease
lease.EVERY = 0.2
with lease.leased(mirror.here(sys.argv[1]), "study"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3("runs") as address:
        yield address


@pytest.fixture
def folder(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server, "XDG_CACHE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lease, "EVERY", 0.2)
    monkeypatch.setattr(lease, "PATIENCE", 3.0)
    files._connected.cache_clear()
    yield mirror.here(f"s3://runs/{tmp_path.name}")
    files._connected.cache_clear()


def test_who_comes_second_is_told_who_is_there_and_follows_a_dead_one(folder: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLDS, mirror.told(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        with pytest.raises(VitokError, match=f"process {other.pid} on .* is already running this study in s3://runs/"), \
            place.alone(folder, "study"):  # fmt: skip
            pass
    finally:
        other.kill()
        other.wait()
    began = time.monotonic()
    with place.alone(folder, "study"):  # what it has left does not hold up anybody for long
        assert time.monotonic() - began > 2
        uri = files.join(mirror.told(folder), lease.NAME)
        before = files.read(uri)
        time.sleep(1)
        assert files.read(uri) != before  # renewed
    assert files.exists(uri) is None
    with place.alone(folder, "study"):  # at once
        pass


def test_a_folder_of_a_store_is_a_path_that_says_so(folder: Path, tmp_path: Path) -> None:
    assert mirror.told(folder) == f"s3://runs/{tmp_path.name}" and mirror.here(mirror.told(folder)) == folder
    assert mirror.there(tmp_path) is None and mirror.told(tmp_path) == str(tmp_path)
    (folder / "within").mkdir(parents=True)
    for name in ("a.txt", "within/b.txt", ".hidden", "c.partial"):
        (folder / name).write_text(name)
    mirror.keep(folder)
    assert mirror.names(folder) == ["a.txt"]  # neither what is within, nor what is nobody's business
    mirror.keep(folder / "within" / "b.txt")
    for name in ("a.txt", "within/b.txt"):
        (folder / name).unlink()
    assert mirror.exists(folder / "a.txt") and mirror.fetch(folder / "a.txt").read_text() == "a.txt"
    mirror.fetch(folder)
    assert not (folder / "within" / "b.txt").exists()
    files.write(f"{mirror.told(folder)}/a.txt", b"anew")  # by another machine
    assert mirror.fetch(folder / "a.txt").read_text() == "anew"
    mirror.drop(folder / "a.txt")
    assert not mirror.exists(folder / "a.txt") and mirror.names(folder) == ["within/b.txt"]
    (folder / "a.txt").write_text("of an earlier time")
    assert not mirror.fetch(folder / "a.txt").exists()  # it is no more
    mirror.drop(folder)
    assert mirror.names(folder) == []
    for wrong, said in (("hf://x/y", "it is a folder, s3"), ("s3://", "names no bucket"), ("s3://a/../b", "names no bucket")):
        with pytest.raises(VitokError, match=said):
            mirror.here(wrong)
