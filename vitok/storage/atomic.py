"""Files that are whole when they are there: written beside their place, then renamed."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

Content = bytes | str | Callable[[BinaryIO], Any]


def write(path: Path, content: Content) -> Path:
    """Write a file so that a reader sees the old one or the new one, never a part. Return its path.

    `content` is bytes, text, or a function that writes to the open file. Folders are made. Raises `OSError`; then nothing is left behind
    but, where the process dies, a file whose name holds ".partial-".
    """

    def fill(partial: Path) -> None:
        with partial.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)

    return write_with(path, fill)


def write_with(path: Path, fill: Callable[[Path], Any]) -> Path:
    """Write a file as `write` does, by a function that is given the path to write to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        fill(partial)
        return partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
