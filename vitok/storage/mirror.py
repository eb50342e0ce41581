"""Storage in an object store: what lies at s3://bucket/runs is worked on in a folder of this machine that stands for it.

A path within that folder says itself what it stands for, so that all code has paths alone. It calls `fetch` before it reads what
another node may have written, and `send` after it has written what others, or a later run, must find. On a disk that all nodes see
both do nothing.
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
    """Return where the files of an address are worked on, on this machine. A path is its own place."""
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
    """Return the address that a path stands for; None: it lies on a disk."""
    if MARK not in path.parts:
        return None
    scheme, *rest = path.parts[path.parts.index(MARK) + 1 :]
    return f"{scheme}://{'/'.join(rest)}"


def address_of(path: Path) -> str:
    """Return a path as people, and other machines, know it: the store's address, or the path itself. `local_path` gives the path again."""
    return store_address(path) or str(path)


def identity(storage: Path) -> str:
    """Return the text that tells this storage from another under the same path on another machine: written once."""
    path = storage / IDENTITY
    if not exists(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex)
        send(path)
    return fetch(path).read_text()


def expect(storage: Path, wanted: str) -> None:
    """Raise `VitokError` where this machine does not see the storage with that identity."""
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
    """Return whether there is such a file, here or in the store it stands for."""
    uri = store_address(path)
    return path.is_file() if uri is None else filesystem.exists(uri) == "file"


def fetch(path: Path) -> Path:
    """Fetch a file, or the files of a folder (not of those within it), from the store. Return the path. What is not there is not here
    either."""
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
    """Send a file, or the files of a folder, to the store. Return the path. Raises `VitokError`."""
    uri = store_address(path)
    if uri is None:
        return path
    for file in sorted(path.iterdir()) if path.is_dir() else (path,):
        if file.is_file() and not file.name.startswith(".") and ".partial" not in file.name:
            _send(file, str(store_address(file)))
    return path


def drop(path: Path) -> None:
    """Remove a file or a folder, here and there."""
    uri = store_address(path)
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if uri is not None and filesystem.exists(uri):
        filesystem.remove(uri)


def list_files(path: Path) -> list[str]:
    """Return the names of the files in a folder and below it, relative to it."""
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
