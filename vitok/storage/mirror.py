"""Local copies of files in an object store (s3://, gs://), so that all other code works with paths.

A storage such as s3://bucket/runs has a folder in the user's cache, and the path of that folder holds the address:
~/.cache/vitok/vitok-store/s3/bucket/runs. Code downloads with `fetch` before it reads what another node may have written, and uploads
with `send` after it has written what other nodes or later runs need. For a path on a disk that all nodes see both do nothing.
"""

import os
import shutil
import socket
import uuid
from pathlib import Path, PurePosixPath

from filelock import FileLock

from vitok.errors import RejectedError, UsageError, VitokError
from vitok.storage import filesystem

MARK = "vitok-store"  # the folder that stands for all stores
IDENTITY = "storage-id"  # the file that tells a storage from another
ALWAYS_FETCHED = 1 << 20  # bytes: what may be written again is at most so large, and fetched each time
SCHEMES = ("s3", "gs")


def local_path(uri: str) -> Path:
    """Return the local path that stands for a storage's address; for a local path, the path itself, made absolute. Raise `UsageError`
    for another scheme, or an address without a bucket."""
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        return Path(uri).expanduser().absolute()
    if scheme not in SCHEMES:
        raise UsageError(f"storage {uri}: it is a folder, s3://bucket/folder or gs://bucket/folder")
    parts = PurePosixPath(rest).parts
    if not parts or ".." in parts or rest.startswith("/"):
        raise UsageError(f"storage {uri}: it names no bucket, as in {scheme}://bucket/folder")
    return filesystem.cache() / MARK / scheme / Path(*parts)


def store_address(path: Path) -> str | None:
    """Return the store address (s3://..., gs://...) that a local path stands for, or None for a path on an ordinary disk."""
    if MARK not in path.parts:
        return None
    scheme, *rest = path.parts[path.parts.index(MARK) + 1 :]
    return f"{scheme}://{'/'.join(rest)}"


def address_of(path: Path) -> str:
    """Return a path as text for messages and for other machines: its store address where it has one. `local_path` turns the text into
    the path again."""
    return store_address(path) or str(path)


def identity(storage: Path) -> str:
    """Return the random id of a storage, which is written on the first call. Two machines can see different disks at one path; the id
    tells the disks apart."""
    path = storage / IDENTITY
    if not exists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex)
        send(path)
    return fetch(path).read_text()


def expect(storage: Path, wanted: str) -> None:
    """Raise `VitokError` where this machine does not see the storage with the id `wanted` (see `identity`)."""
    try:
        path = fetch(storage / IDENTITY)
        if path.is_file() and path.read_text() == wanted:
            return
        found = "another storage lies" if path.is_file() else "no storage lies"
    except VitokError as error:
        found = str(error)
    raise VitokError(
        f"node {socket.gethostname()} does not reach storage {address_of(storage)} ({found} there): give --storage a folder that all nodes "
        "mount, or s3://bucket/folder"
    )


def exists(path: Path) -> bool:
    """Return whether a file exists, in the store or on the disk that the path stands for."""
    uri = store_address(path)
    return path.is_file() if uri is None else filesystem.exists(uri) == "file"


def fetch(path: Path) -> Path:
    """Download a file, or the files directly in a folder, from the store to the local path, and return the path. A local file that the
    store no longer has is removed. Raise `VitokError` where a download fails."""
    uri = store_address(path)
    if uri is None:
        return path
    kind = filesystem.exists(uri)
    if kind == "file":
        _fetch(uri, path)
    elif kind == "folder":
        for name, _ in filesystem.listing(uri):
            if "/" not in name:
                _fetch(filesystem.join(uri, name), path / name)
    elif path.is_file():
        path.unlink()
    return path


def send(path: Path) -> Path:
    """Upload a file, or the files directly in a folder, to the store, and return the path. Hidden and partial files stay local. Raise
    `VitokError` where an upload fails."""
    uri = store_address(path)
    if uri is None:
        return path
    for file in sorted(path.iterdir()) if path.is_dir() else (path,):
        if file.is_file() and not file.name.startswith(".") and ".partial" not in file.name:
            _send(file, str(store_address(file)))
    return path


def drop(path: Path) -> None:
    """Remove a file or a folder, the local copy and the one in the store."""
    uri = store_address(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if uri is not None and filesystem.exists(uri):
        filesystem.remove(uri)


def list_files(path: Path) -> list[str]:
    """Return the paths of all files below a folder, relative to the folder, as the store or the disk has them."""
    uri = store_address(path)
    if uri is not None:
        return [name for name, _ in filesystem.listing(uri)]
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()) if path.is_dir() else []


def _send(path: Path, uri: str) -> None:
    def fill(out: object) -> None:
        with path.open("rb") as file:
            shutil.copyfileobj(file, out, 16 << 20)  # pyright: ignore[reportArgumentType]

    filesystem.write(uri, fill)


def _fetch(uri: str, path: Path) -> None:
    """Download a file, unless it is larger than `ALWAYS_FETCHED` and the local copy has the store's size and is not older."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.fetch")):  # ranks of one node want the same
        size = filesystem.size(uri)
        if size > ALWAYS_FETCHED and path.is_file() and path.stat().st_size == size and path.stat().st_mtime_ns >= filesystem.changed(uri):
            return
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        try:
            with filesystem.opened(uri) as source, partial.open("wb") as out:
                shutil.copyfileobj(source, out, 16 << 20)
        except (RejectedError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise VitokError(f"{uri} cannot be fetched: {error}") from None
        partial.replace(path)
