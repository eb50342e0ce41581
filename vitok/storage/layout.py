"""The layout of a storage: every folder in it, every file of a run, and how each is written, sent to a store and fetched from it.

STORAGE/
  storage-id              tells a storage from another under the same path
  mlflow.db               runs, where no MLflow server is named; their artifacts are in mlflow-artifacts/
  cells/DIGEST/           a cell of a study (`RunFolder`): one for all studies that ask for it
  train/NAME/             a run by itself (`RunFolder`)
  eval/DIGEST/            an evaluation by itself (`RunFolder`)
  STUDY/report/           a study's report
  statistics/             features of reference sets, shared by all runs
  latents/                latents of corpora, shared by all generators
  samples/DIGEST/         samples of a picture that is being drawn
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from vitok.errors import UsageError, VitokError
from vitok.storage import atomic, mirror


@dataclass(frozen=True)
class StoredFolder:
    """A folder of a storage. Its files are worked on at `path`; where that stands for a folder of a store, files are sent there after
    they are written, and fetched before they are read. On a disk that all nodes see both cost nothing."""

    path: Path

    @classmethod
    def at(cls, address: str) -> Self:
        """Return the folder at a path or an address (s3://bucket/folder)."""
        return cls(mirror.local_path(address))

    @property
    def address(self) -> str:
        """The path, or the address in a store: for people, and for other machines."""
        return mirror.address_of(self.path)

    def file(self, name: str) -> Path:
        """Return the place of a file, whether it is there or not."""
        return self.path / name

    def write(self, name: str, content: atomic.Content) -> Path:
        """Write a file, whole or not at all, and send it."""
        return mirror.send(atomic.write(self.path / name, content))

    def write_with(self, name: str, fill: Callable[[Path], Any]) -> Path:
        """Write a file by a function that is given the path to write to, whole or not at all, and send it."""
        return mirror.send(atomic.write_with(self.path / name, fill))

    def send(self, name: str = "") -> Path:
        """Send a file that is written already, or all files of the folder (not of those within it)."""
        return mirror.send(self.path / name)

    def fetch(self, name: str = "") -> Path:
        """Fetch a file, or all files of the folder, and return its place. A file that is not in the store is not there afterwards."""
        return mirror.fetch(self.path / name)

    def read(self, name: str) -> str | None:
        """Return the text of a file, fetched; None where there is none."""
        path = self.fetch(name)
        return path.read_text() if path.is_file() else None

    def has(self, name: str) -> bool:
        """Return whether there is such a file, here or in the store."""
        return mirror.exists(self.path / name)

    def copy_in(self, source: Path, name: str) -> None:
        """Copy a file that may be removed where it lies, unless it is here already."""
        if not self.has(name):
            with source.open("rb") as file:
                self.write(name, lambda out: shutil.copyfileobj(file, out, 16 << 20))

    def drop(self, name: str) -> None:
        """Remove a file or a folder, here and in the store."""
        mirror.drop(self.path / name)


@dataclass(frozen=True)
class RunFolder(StoredFolder):
    """The folder of one run: what it starts from, what it needs to go on, and what it leaves."""

    # What a run starts from: sent by the process that schedules it, fetched by its workers.
    START = "start.safetensors"

    # What a finished run leaves: sent by rank 0, fetched by who loads the model.
    RECIPE = "recipe.json"
    DEEPSPEED = "deepspeed.json"
    TOKENIZER = "tokenizer.safetensors"
    DIT = "dit.safetensors"
    GENERATOR = "generator.json"  # the corpus that a generator knows: its classes and their shares
    RECONSTRUCTIONS = "reconstructions.png"
    SAMPLES = "samples.png"
    CLIPS = "samples.mp4"
    RESULT = "result.json"  # of an evaluation
    SUMS = "SHA256SUMS"  # of what is read again, as `sha256sum --check` takes it

    # What an interrupted run goes on from. Checkpoints have a layout of their own: see `train/checkpoint/store.py`.
    CHECKPOINTS = "checkpoints"
    STARTS = "starts.json"  # how often its workers were started since the last checkpoint
    REFUSAL = "refusal.txt"  # why workers that are started again must not begin

    # What is looked at after a fault.
    RANKS = "ranks"  # a file a rank: where it stands
    HANG = "hang.txt"  # the rank that held up the others
    BAD_BATCHES = "bad_batches"

    def seal(self, *names: str) -> None:
        """Keep the hashes of files that a finished run leaves, so that `intact` knows whether they are still what they were."""
        self.write(self.SUMS, "".join(f"{_sha256(self.file(name))}  {name}\n" for name in names))

    def intact(self, name: str) -> Path:
        """Fetch a file that a finished run left, compare it with its hash, and return its place. Raises `UsageError` for a file that has
        changed; a folder without hashes, of an older version, is taken as it is."""
        path, sums = self.fetch(name), self.read(self.SUMS) or ""
        kept = {file: digest for digest, _, file in (line.partition("  ") for line in sums.splitlines())}
        if name in kept and path.is_file() and _sha256(path) != kept[name]:
            raise UsageError(
                f"{path} is damaged: its SHA-256 is not the one that its run kept in {self.SUMS}; restore it from a copy, or remove it "
                "and run the same command again, which trains it anew"
            )
        return path

    def partial_counts(self, what: str) -> Path:
        """Return the place of what an evaluation has counted so far ("measured", "drawn-0-of-2"): removed at its end."""
        return self.path / f"{what}.npz"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Storage(StoredFolder):
    """Where everything is kept: a folder, or one of a store."""

    @classmethod
    def open(cls, address: str | Path | None = None) -> "Storage":
        """Open `address`, or VITOK_STORAGE, or ./runs: made, and tried. Raises `UsageError`, or `VitokError` where it cannot be written."""
        path = mirror.local_path(str(address or os.environ.get("VITOK_STORAGE") or "runs"))
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
        return cls(path)

    @property
    def identity(self) -> str:
        """The text that tells this storage from another under the same path on another machine."""
        return mirror.identity(self.path)

    def expect(self, identity: str) -> None:
        """Raise `VitokError` where this machine does not see the storage with that identity."""
        mirror.expect(self.path, identity)

    @property
    def in_store(self) -> bool:
        """Whether it lies in an object store, not on a disk."""
        return mirror.store_address(self.path) is not None

    @property
    def database(self) -> Path:
        """MLflow's database, where no server is named."""
        return self.path / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """Artifacts of the runs in that database."""
        return self.path / "mlflow-artifacts"

    @property
    def statistics(self) -> Path:
        """Statistics of reference sets, shared by all runs."""
        return self.path / "statistics"

    @property
    def latents(self) -> Path:
        """Latents of corpora, shared by all generators."""
        return self.path / "latents"

    def cell(self, digest: str) -> RunFolder:
        """Return the folder of a cell: one for all studies, so that whichever asks for the cell next finds it."""
        return RunFolder(self.path / "cells" / digest)

    def run(self, name: str) -> RunFolder:
        """Return the folder of a run by itself."""
        return RunFolder(self.path / "train" / name)

    def evaluation(self, digest: str) -> RunFolder:
        """Return the folder of an evaluation by itself."""
        return RunFolder(self.path / "eval" / digest)

    def study(self, name: str) -> Path:
        """Return the folder of a study or a collection: its lock, its report, Tune's own records."""
        return self.path / name

    def report(self, study: str, within: str = "") -> StoredFolder:
        """Return the folder of a study's report; `within`: of the collection that asked for it."""
        return StoredFolder(self.path / within / study / "report")

    def collection(self, name: str) -> StoredFolder:
        """Return the folder of a collection's page."""
        return StoredFolder(self.path / name)

    def samples(self, digest: str) -> Path:
        """Return the folder of samples whose picture is not drawn yet."""
        return self.path / "samples" / digest
