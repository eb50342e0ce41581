"""What a split of a corpus is to those who read it: samples in units that are read together, found by number.

A table (Arrow: compact, and shared between the processes of a node) says where each sample or group of samples lies.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from vitok.data import files, photos
from vitok.data.sample import MOTION, NO_LABEL, PHOTOS, RejectedError, Sample

Kind = Literal["image", "video"]


class Split(Protocol):
    @property
    def units(self) -> np.ndarray | None:
        """Samples in each unit; None if every unit is one sample, wherever it lies."""
        ...

    @property
    def window(self) -> int:
        """Units that the order of an epoch mixes: 1 where a unit's samples are a random draw from the corpus already."""
        ...

    def __len__(self) -> int: ...

    def name(self, unit: int, row: int) -> str: ...

    def get(self, unit: int, row: int) -> Sample:
        """Raises `RejectedError` for one that is gone or unreadable."""
        ...

    def index(self) -> pa.Table:
        """All that is known without reading: what the fingerprint covers."""
        ...


@dataclass(frozen=True, eq=False)
class _Singles:
    """A row of the table a sample."""

    root: str
    table: pa.Table
    units = None
    window = 1

    def __len__(self) -> int:
        return self.table.num_rows

    def name(self, unit: int, row: int = 0) -> str:
        return _cell(self.table, "name", unit)

    def index(self) -> pa.Table:
        return self.table


@dataclass(frozen=True, eq=False)
class Files(_Singles):
    """A file a sample. Table: name, size, label, and for parts of longer videos start and stop (seconds)."""

    kind: Kind

    def get(self, unit: int, row: int = 0) -> Sample:
        name, label = _cell(self.table, "name", unit), _cell(self.table, "label", unit)
        uri = locate(self.root, name)
        if self.kind == "image":
            return Sample(name, label, files.read(uri))
        start = _cell(self.table, "start", unit) if "start" in self.table.column_names else None
        span = None if start is None else (start, _cell(self.table, "stop", unit))
        return Sample(name, label, uri=uri, span=span)


@dataclass(frozen=True, eq=False)
class Members(_Singles):
    """A range of bytes of a tar a sample. Table: name, shard (number in `shards`), offset, size, label."""

    shards: tuple[str, ...]

    def get(self, unit: int, row: int = 0) -> Sample:
        shard = self.shards[_cell(self.table, "shard", unit)]
        offset, size = _cell(self.table, "offset", unit), _cell(self.table, "size", unit)
        data = files.read(files.join(self.root, shard), offset, size)
        if len(data) < size:
            raise RejectedError("truncated", f"{shard} ends within it")
        return Sample(_cell(self.table, "name", unit), _cell(self.table, "label", unit), data)


@dataclass(frozen=True)
class Columns:
    """Where in a Parquet row things stand. `media` holds bytes, or a struct of bytes and path (Hugging Face)."""

    media: str
    label: str | None
    name: str | None


@dataclass(frozen=True, eq=False)
class Rows:
    """A run of rows of a Parquet row group a unit. Table: file (number in `files`), group, first, rows."""

    root: str
    files: tuple[str, ...]
    table: pa.Table
    columns: Columns
    window: int

    @property
    def units(self) -> np.ndarray:
        return self.table["rows"].to_numpy()

    def __len__(self) -> int:
        return int(self.units.sum())

    def name(self, unit: int, row: int) -> str:
        file, group, first = (_cell(self.table, column, unit) for column in ("file", "group", "first"))
        return f"{self.files[file]}#{group}.{first + row}"

    def get(self, unit: int, row: int) -> Sample:
        file, group = self.files[_cell(self.table, "file", unit)], _cell(self.table, "group", unit)
        whole_name = self.name(unit, row)
        row += _cell(self.table, "first", unit)
        media, columns = _group(files.join(self.root, file), group, self.columns), self.columns
        value = media[columns.media][row].as_py()
        named = media[columns.name][row].as_py() if columns.name else value.get("path") if isinstance(value, dict) else None
        name, data = named or whole_name, value["bytes"] if isinstance(value, dict) else value
        label = media[columns.label][row].as_py() if columns.label else None
        if data is None:
            raise RejectedError("empty", "no bytes in its row")
        return Sample(name, NO_LABEL if label is None else int(label), data)

    def index(self) -> pa.Table:
        return self.table


@dataclass(frozen=True, eq=False)
class Idx:
    """A row of an IDX file of grey pictures a sample (the MNIST family), handed on as a PGM file."""

    images: str
    labels: str
    count: int
    units = None
    window = 1

    def __len__(self) -> int:
        return self.count

    def name(self, unit: int, row: int = 0) -> str:
        return f"{self.images.rsplit('/', 1)[-1].split('.')[0]}#{unit}"

    def get(self, unit: int, row: int = 0) -> Sample:
        pictures, labels = idx_array(self.images), idx_array(self.labels)
        height, width = pictures.shape[1:]
        return Sample(self.name(unit), int(labels[unit]), b"P5 %d %d 255\n" % (width, height) + pictures[unit].tobytes())

    def index(self) -> pa.Table:
        labels = idx_array(self.labels)[: self.count]
        return pa.table({"file": [self.images.rsplit("/", 1)[-1]] * self.count, "label": labels})


def locate(root: str, name: str) -> str:
    """The file of a sample, as this node reaches it."""
    if root == PHOTOS:
        return str(photos.locate(name))
    if root == MOTION:
        from vitok.data import motion

        return str(motion.locate(name))
    return files.join(root, name)


def _cell(table: pa.Table, column: str, row: int) -> Any:
    return table[column][row].as_py()


@lru_cache(maxsize=12)  # more than the units of a window of `Rows`
def _group(uri: str, group: int, columns: Columns) -> pa.Table:
    import pyarrow.parquet as pq

    wanted = [name for name in (columns.media, columns.label, columns.name) if name]

    def attempt() -> pa.Table:
        with files.open_file(uri) as file:
            return pq.ParquetFile(file).read_row_group(group, columns=wanted, use_threads=False).combine_chunks()

    try:
        return files.retried(uri, attempt)
    except pa.ArrowInvalid as error:
        raise RejectedError("corrupt", str(error)) from None


@lru_cache(maxsize=4)
def idx_array(uri: str) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped."""
    import gzip

    data = files.read(uri)
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise RejectedError("corrupt", f"{uri} is no IDX file of bytes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", data[3], 4))
    found = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if found.size != int(np.prod(shape)):
        raise RejectedError("truncated", f"{uri} holds {found.size} bytes of {int(np.prod(shape))}")
    return found.reshape(shape)
