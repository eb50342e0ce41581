"""Stores of checkpoints: a disk that all ranks see, or an object store.

On a disk every rank writes into one folder, which is renamed when it is whole. An object store renames nothing: there the files of an
attempt carry its name, and state.json, which comes last and names them, makes the checkpoint.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitok.errors import RejectedError, VitokError
from vitok.storage import atomic, filesystem, mirror

PATIENCE = 600.0  # seconds that rank 0 waits for the files of the others
PARTIAL, DAMAGED, STATE = ".partial", ".damaged", "state.json"


class DiskStore:
    """Checkpoints in a folder that all ranks see."""

    poll = 0.02  # seconds between two looks for the files of others

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank = folder, rank
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove what attempts before this one have left unfinished. Called by rank 0."""
        for partial in self.folder.glob("*" + PARTIAL):
            shutil.rmtree(partial, ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are whole, oldest first."""
        return sorted(int(path.name[5:]) for path in self.folder.glob("step_*") if not path.suffix)

    def opened(self, step: int) -> Path:
        """Return the folder to read a checkpoint from."""
        return self.folder / checkpoint_name(step)

    def aside(self, step: int, attempt: str) -> str:
        """Put a damaged checkpoint where it is not found again; return its new name. Called by rank 0."""
        path = self.opened(step)
        return path.replace(path.with_name(f"{path.name}-{attempt}{DAMAGED}")).name

    def begin(self, step: int, attempt: str) -> Path:
        """Return the path of this rank's file, to be written."""
        partial = self._partial(step, attempt)
        partial.mkdir(exist_ok=True)
        return partial / f"{rank_file(self.rank)}.safetensors"

    def hand_in(self, step: int, attempt: str, entry: dict[str, Any]) -> None:
        """Tell that this rank's file is written; `entry` describes it."""
        atomic.write(self._partial(step, attempt) / f"{rank_file(self.rank)}.json", json.dumps(entry))

    def give_up(self, step: int, attempt: str, reason: str) -> None:
        """Tell that this rank's file could not be written, and why."""
        with suppress(OSError):  # on a full disk the empty file says enough
            (self._partial(step, attempt) / f"{rank_file(self.rank)}.failed").write_text(reason)

    def entry(self, step: int, attempt: str, rank: int) -> tuple[str, dict[str, Any]]:
        """Return the name of a rank's file and its description, when they are there. Raises `OSError`."""
        done = self._partial(step, attempt) / f"{rank_file(rank)}.json"
        wait_for_file(lambda: done.exists(), lambda: _text(done.with_suffix(".failed")), rank, self.poll)
        return f"{rank_file(rank)}.safetensors", json.loads(done.read_text())

    def complete(self, step: int, attempt: str, state: dict[str, Any]) -> None:
        """Make it a checkpoint: all files are there. Called by rank 0."""
        partial, path = self._partial(step, attempt), self.opened(step)
        atomic.write(partial / STATE, json.dumps(state))
        if path.exists():  # done before by a run that was then set back
            shutil.rmtree(path)
        partial.replace(path)

    def discard(self, step: int, attempt: str) -> None:
        """Remove an attempt that failed."""
        shutil.rmtree(self._partial(step, attempt), ignore_errors=True)

    def retire(self, step: int) -> None:
        """Remove a checkpoint that is no longer wanted."""
        shutil.rmtree(self.opened(step), ignore_errors=True)

    def _partial(self, step: int, attempt: str) -> Path:
        return self.folder / f"{checkpoint_name(step)}-{attempt}{PARTIAL}"


class ObjectStore:
    """Checkpoints in a folder of an object store; `folder` stands for it on this machine. The methods are those of `DiskStore`."""

    poll = 0.5

    def __init__(self, folder: Path, rank: int) -> None:
        self.folder, self.rank, self.uri = folder, rank, mirror.address_of(folder)
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove files of attempts that did not come to a checkpoint. Called by rank 0."""
        whole = {checkpoint_name(step) for step in self.steps()}
        for name in {name.partition("/")[0] for name in mirror.list_files(self.folder)} - whole:
            if "." not in name:  # one that was put aside stays
                mirror.drop(self.folder / name)

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints that are whole, oldest first."""
        whole = (name.partition("/") for name in mirror.list_files(self.folder))
        return sorted(int(folder[5:]) for folder, _, file in whole if file == STATE and "." not in folder)

    def opened(self, step: int) -> Path:
        """Fetch a checkpoint; return the folder to read it from."""
        return mirror.fetch(self.folder / checkpoint_name(step))

    def aside(self, step: int, attempt: str) -> str:
        """Put a damaged checkpoint where it is not found again: its state.json is moved, its files stay for who looks into them. Return
        its new name."""
        name, state = f"{checkpoint_name(step)}-{attempt}{DAMAGED}", self._file(step, STATE)
        filesystem.write(filesystem.join(self.uri, f"{name}/{STATE}"), filesystem.read(state))
        filesystem.remove(state)
        return name

    def begin(self, step: int, attempt: str) -> Path:
        """Return the path of this rank's file, to be written."""
        folder = self.folder / checkpoint_name(step)
        folder.mkdir(exist_ok=True)
        return folder / _of(self.rank, attempt, "safetensors")

    def hand_in(self, step: int, attempt: str, entry: dict[str, Any]) -> None:
        """Send this rank's file; `entry` describes it. Raises `OSError`."""
        path = self.begin(step, attempt)
        try:
            mirror.send(path)
            filesystem.write(self._file(step, _of(self.rank, attempt, "json")), json.dumps(entry).encode())
        except VitokError as error:
            raise OSError(str(error)) from None
        finally:
            path.unlink(missing_ok=True)  # two are held already: in the device's memory and in this machine's

    def give_up(self, step: int, attempt: str, reason: str) -> None:
        """Tell that this rank's file could not be written, and why."""
        with suppress(VitokError):
            filesystem.write(self._file(step, _of(self.rank, attempt, "failed")), reason.encode())

    def entry(self, step: int, attempt: str, rank: int) -> tuple[str, dict[str, Any]]:
        """Return the name of a rank's file and its description, when they are there. Raises `OSError`."""
        done, failed = (self._file(step, _of(rank, attempt, kind)) for kind in ("json", "failed"))
        try:
            wait_for_file(lambda: filesystem.exists(done) == "file", lambda: _remote_text(failed), rank, self.poll)
            return _of(rank, attempt, "safetensors"), json.loads(filesystem.read(done))
        except (VitokError, RejectedError) as error:
            raise OSError(str(error)) from None

    def complete(self, step: int, attempt: str, state: dict[str, Any]) -> None:
        """Make it a checkpoint: all files are there. Raises `OSError`."""
        try:
            filesystem.write(self._file(step, STATE), json.dumps(state).encode())
        except VitokError as error:
            raise OSError(str(error)) from None

    def discard(self, step: int, attempt: str) -> None:
        """Leave a failed attempt: the next one clears it."""

    def retire(self, step: int) -> None:
        """Remove a checkpoint that is no longer wanted; where the store fails, with the next one."""
        with suppress(VitokError, OSError):  # it is then retired with the next
            state = self._file(step, STATE)
            if filesystem.exists(state):
                filesystem.remove(state)  # first: what lacks files must not be taken for whole
            mirror.drop(self.folder / checkpoint_name(step))

    def _file(self, step: int, name: str) -> str:
        return filesystem.join(self.uri, f"{checkpoint_name(step)}/{name}")


def open_store(folder: Path, rank: int) -> DiskStore | ObjectStore:
    """Open the store of a run's checkpoints: a disk, or an object store where the folder stands for one."""
    return ObjectStore(folder, rank) if mirror.store_address(folder) else DiskStore(folder, rank)


def checkpoint_name(step: int) -> str:
    """Return the name of a checkpoint's folder."""
    return f"step_{step:08d}"


def rank_file(rank: int) -> str:
    """Return the name of a rank's file, without its ending."""
    return f"rank_{rank:05d}"


def _of(rank: int, attempt: str, kind: str) -> str:
    return f"{rank_file(rank)}-{attempt}.{kind}"


def wait_for_file(there: Callable[[], bool], failed: Callable[[], str | None], rank: int, poll: float) -> None:
    """Wait for a rank's file. Raises `OSError` where the rank has failed, or is not heard of for ten minutes."""
    ends = time.monotonic() + PATIENCE
    while not there():
        reason = failed()
        if reason is not None:
            raise OSError(f"rank {rank}: {reason}")
        if time.monotonic() > ends:
            raise OSError(f"rank {rank} has not written its part in {PATIENCE:.0f} s")
        time.sleep(poll)


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _remote_text(uri: str) -> str | None:
    return filesystem.read(uri).decode() if filesystem.exists(uri) else None
