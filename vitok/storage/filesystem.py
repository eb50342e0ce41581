"""Read, list and write files by URI: a local path, s3://, gs:// or hf:// (Hugging Face Hub, read only).

The stores are reached through `pyarrow.fs`; credentials come from the environment. A request that fails is repeated with growing pauses.
A file that cannot be read after that becomes a `RejectedError`: training counts the sample as rejected and goes on.
"""

import contextlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt, wait_exponential

from vitok.errors import RejectedError, UsageError, VitokError
from vitok.storage import atomic
from vitok.text import printable

SCHEMES = ("s3", "gs", "hf")
ATTEMPTS, PAUSE = 5, 0.2  # tries of one request, seconds before the second; doubled each time
Result = TypeVar("Result")


def is_remote(uri: str) -> bool:
    """Return whether a URI names a store (s3://, gs:// or hf://) rather than a local path."""
    return uri.partition("://")[0] in SCHEMES and "://" in uri


def join(root: str, name: str) -> str:
    """Return the URI of file `name`, a relative path, below the folder `root`."""
    return f"{root.rstrip('/')}/{name}"


def absolute(uri: str) -> str:
    """Return a local path as an absolute one, with `~` and links resolved; return the URI of a store without a slash at its end."""
    return uri.rstrip("/") if is_remote(uri) else str(Path(uri).expanduser().resolve())


def listing(root: str) -> list[tuple[str, int]]:
    """Return all files below a folder as (path relative to the folder, bytes), sorted by path. Raise `UsageError` where the folder
    cannot be read."""
    return survey(root).files


@dataclass(frozen=True)
class Survey:
    """All that lies below a folder, by paths relative to it."""

    files: list[tuple[str, int]]  # (path, bytes), sorted by path
    broken: list[tuple[str, str]] = field(default_factory=list)  # (path, reason) of links that lead to no file
    empty: list[str] = field(default_factory=list)  # folders without a file; a store has none


def survey(root: str) -> Survey:
    """Return all that lies below a folder. A link to a folder that it lies in is not followed. Raise `UsageError` where a folder cannot
    be read."""
    if not is_remote(root):
        found_here = Survey([])
        _walk(root, "", (), found_here)
        found_here.files.sort()
        return found_here
    from pyarrow import fs

    system, path = filesystem(root)
    found = _asked(root, "listed", lambda: system.get_file_info(fs.FileSelector(path, recursive=True, allow_not_found=True)))
    start = len(path.rstrip("/")) + 1
    return Survey(sorted((info.path[start:], info.size) for info in found if info.type == fs.FileType.File))


def exists(uri: str) -> str | None:
    """Return "file" or "folder" for what lies at a URI, None where nothing does. Raise `UsageError` where a store cannot be asked."""
    if not is_remote(uri):
        return "folder" if Path(uri).is_dir() else "file" if Path(uri).is_file() else None
    from pyarrow import fs

    system, path = filesystem(uri)
    kind = _asked(uri, "read", lambda: system.get_file_info(path)).type
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(kind)


def size(uri: str) -> int:
    """Return the size of a file in bytes. Raise `UsageError` where there is no such file."""
    return _stat(uri)[0]


def changed(uri: str) -> int:
    """Return the time of the last change of a file, in nanoseconds since 1970. Raise `UsageError` where there is no such file."""
    return int(_stat(uri)[1])


def stamp(uri: str) -> str:
    """Return a text that differs once a file has been written again, for use in cache keys. Raise `UsageError` where there is no such
    file."""
    return "{} {}".format(*_stat(uri))


def _stat(uri: str) -> tuple[int, int | str]:
    """Return (bytes, time of the last change in ns) of a file; on the Hub, which keeps no times, the second is the content's blob id."""
    if not is_remote(uri):
        try:
            found = Path(uri).stat()
        except OSError as error:
            raise UsageError(f"{uri!r} cannot be read: {_short(error)}") from None
        return found.st_size, found.st_mtime_ns
    system, path = filesystem(uri)
    info = _asked(uri, "read", lambda: system.get_file_info(path))
    if info.size is None:
        raise UsageError(f"{uri!r} is not there")
    if uri.startswith("hf://"):
        return int(info.size), _asked(uri, "read", lambda: system.handler.fs.info(path))["blob_id"]
    return int(info.size), int(info.mtime_ns or 0)


def read(uri: str, offset: int = 0, count: int | None = None) -> bytes:
    """Return the bytes of a file: all, or `count` from `offset` on. Raise `RejectedError` ("vanished", "unreadable")."""

    def attempt() -> bytes:
        with open_file(uri) as file:
            if offset:
                file.seek(offset)
            return file.read() if count is None else file.read(count)

    return retried(uri, attempt)


def open_file(uri: str) -> Any:
    """Open a seekable binary file for reading. One attempt; raise `OSError` where it fails."""
    if not is_remote(uri):
        return Path(uri).open("rb")
    system, path = filesystem(uri)
    return system.open_input_file(path)


def opened(uri: str) -> Any:
    """Open a file as `open_file` does, with several attempts. Raise `RejectedError` ("vanished", "unreadable")."""
    return retried(uri, lambda: open_file(uri))


def write(uri: str, data: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that a reader sees all of it or nothing; a store does so by itself, a local file is renamed into place.

    `data` is bytes, or a function that writes to the open file and may be called again for another attempt. Raise `UsageError` for
    hf://, `VitokError` where the file cannot be written.
    """
    if uri.startswith("hf://"):
        raise UsageError(f"{uri}: the Hub is read here, not written; write to a folder and upload it with `hf upload`")
    fill: Callable[[BinaryIO], Any] = (lambda file: file.write(data)) if isinstance(data, bytes) else data
    try:
        _patiently(uri, lambda: _upload(uri, fill)) if is_remote(uri) else atomic.write(Path(uri), fill)
    except OSError as error:
        raise VitokError(f"{uri} cannot be written: {_short(error)}") from None


def _upload(uri: str, fill: Callable[[BinaryIO], Any]) -> None:
    system, path = filesystem(uri)
    with system.open_output_stream(path) as file:
        fill(file)


def remove(uri: str) -> None:
    """Remove a folder with everything in it. In a store, `uri` may name a file, too."""
    if is_remote(uri):
        system, path = filesystem(uri)
        with contextlib.suppress(FileNotFoundError):  # gs:// has deleted all within, and then misses the folder, which is only a name
            system.delete_file(path) if exists(uri) == "file" else system.delete_dir(path)
    else:
        import shutil

        shutil.rmtree(uri)


def tidy(root: str) -> None:
    """Remove the partial files that killed writers left in a local folder. Do nothing for a store."""
    if not is_remote(root):
        for path in Path(root).glob("*.partial-*"):
            path.unlink()


def retried(uri: str, attempt: Callable[[], Result]) -> Result:
    """Return the result of `attempt`, a function that reads from `uri`, with several attempts. Raise `RejectedError` ("vanished",
    "unreadable")."""
    try:
        return _patiently(uri, attempt)
    except FileNotFoundError:
        raise RejectedError("vanished", uri) from None
    except OSError as error:
        raise RejectedError("unreadable", _short(error)) from None


def _patiently(uri: str, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` up to `ATTEMPTS` times with doubled pauses for a store, once for a local path. Raise `FileNotFoundError` at once,
    otherwise the last error as an `OSError` of one line."""
    retried = retry_if_exception_type(_failures(uri)) & retry_if_not_exception_type(FileNotFoundError)
    stop = stop_after_attempt(ATTEMPTS if is_remote(uri) else 1)
    attempts = Retrying(retry=retried, stop=stop, wait=wait_exponential(PAUSE), reraise=True, sleep=time.sleep)
    try:
        return attempts(attempt)
    except FileNotFoundError:
        raise
    except _failures(uri) as error:
        raise OSError(_short(error)) from None


def _failures(uri: str) -> tuple[type[Exception], ...]:
    """Return the exceptions that a client raises when a request fails. The Hub's client lets through the errors of its HTTP library,
    whichever that is; Google's reports an invalid argument when an upload broke off and cannot go on."""
    if uri.startswith("gs://"):
        from pyarrow import ArrowException

        return OSError, ArrowException
    if uri.startswith("hf://"):
        from huggingface_hub.errors import HfHubHTTPError

        return OSError, *HfHubHTTPError.__bases__
    return (OSError,)


def _asked(uri: str, what: str, attempt: Callable[[], Result]) -> Result:
    """Return a store's answer about its files. Only the Hub is asked several times: the other clients repeat requests by themselves.
    Raise `UsageError`."""
    try:
        return _patiently(uri, attempt) if uri.startswith("hf://") else attempt()
    except OSError as error:
        raise UsageError(f"{uri!r} cannot be {what}: {_short(error)}") from None


def _walk(root: str, prefix: str, above: tuple[tuple[int, int], ...], found: Survey) -> None:
    """Add what lies below a folder. `above`: (device, inode) of the folders that it lies in, by which a link back to one is known."""
    before = len(found.files) + len(found.broken)
    try:
        here = Path(root).stat()
        above = (*above, (here.st_dev, here.st_ino))
        with os.scandir(root) as entries:
            for entry in entries:
                name = prefix + entry.name
                try:
                    status = entry.stat()
                except OSError as error:  # of a link that leads nowhere, or to itself
                    if not entry.is_symlink():
                        raise
                    found.broken.append((name, "dead link" if isinstance(error, FileNotFoundError) else f"link: {error.strerror}"))
                    continue
                if stat.S_ISREG(status.st_mode):
                    found.files.append((name, status.st_size))
                elif stat.S_ISDIR(status.st_mode):
                    if entry.is_symlink() and (status.st_dev, status.st_ino) in above:
                        found.broken.append((name, "link to a folder above it"))
                    else:
                        _walk(entry.path, f"{name}/", above, found)
    except OSError as error:
        raise UsageError(f"corpus folder {printable(root)!r} cannot be read: {error.strerror}") from None
    if prefix and len(found.files) + len(found.broken) == before:
        found.empty.append(prefix.rstrip("/"))


def filesystem(uri: str) -> tuple[Any, str]:
    """Return (pyarrow's filesystem of the store, path within it) for the URI of a store."""
    scheme, _, path = uri.partition("://")
    return _connected(scheme), path


@lru_cache
def _connected(scheme: str) -> Any:
    """Return the pyarrow filesystem of a scheme. Credentials and endpoints come from the environment, as the clouds' own tools read
    them."""
    from pyarrow import fs

    if scheme == "s3":
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
        options = {"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if endpoint.netloc else {}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return fs.S3FileSystem(region=region, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=10), **options)
    if scheme == "gs":
        emulator = urlsplit(os.environ.get("STORAGE_EMULATOR_HOST") or "")
        options = {"anonymous": True, "endpoint_override": emulator.netloc, "scheme": emulator.scheme} if emulator.netloc else {}
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=30), **options)
    from huggingface_hub import HfFileSystem

    return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem()))


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def cache() -> Path:
    """Return vitok's cache folder in the user's cache on this machine. Everything in it can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vitok"
