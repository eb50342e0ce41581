"""What a split of a corpus is to those who read it: samples in units that are read together, found by number.

A table (Arrow: compact, and shared between the processes of a node) says where each sample or group of samples lies.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from vitok.data.corpora import sample_photos
from vitok.data.sample import MOTION, NO_LABEL, PHOTOS, Sample
from vitok.errors import RejectedError
from vitok.storage import filesystem

Kind = Literal["image", "video"]


class Split(Protocol):
    """A split of a corpus: samples in units that are read together, found by number."""

    @property
    def units(self) -> np.ndarray | None:
        """Samples in each unit; None if every unit is one sample, wherever it lies."""
        ...

    @property
    def window(self) -> int:
        """Units that the order of an epoch mixes: 1 where a unit's samples are a random draw from the corpus already."""
        ...

    def __len__(self) -> int: ...

    def name(self, unit: int, row: int) -> str:
        """Return a sample's name within its corpus."""
        ...

    def get(self, unit: int, row: int) -> Sample:
        """Read a sample. Raises `RejectedError` for one that is gone or unreadable."""
        ...

    def index(self) -> pa.Table:
        """Return all that is known without reading: the fingerprint covers it."""
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
        """Return a sample's name."""
        return _cell(self.table, "name", unit)

    def index(self) -> pa.Table:
        """Return the table."""
        return self.table


@dataclass(frozen=True, eq=False)
class Files(_Singles):
    """A file a sample. Table: name, size, label, and for parts of longer videos start and stop (seconds)."""

    kind: Kind

    def get(self, unit: int, row: int = 0) -> Sample:
        """Read a sample's file."""
        name, label = _cell(self.table, "name", unit), _cell(self.table, "label", unit)
        uri = locate(self.root, name)
        if self.kind == "image":
            return Sample(name, label, filesystem.read(uri))
        start = _cell(self.table, "start", unit) if "start" in self.table.column_names else None
        span = None if start is None else (start, _cell(self.table, "stop", unit))
        return Sample(name, label, uri=uri, span=span)


@dataclass(frozen=True, eq=False)
class Members(_Singles):
    """A range of bytes of a tar a sample. Table: name, shard (number in `shards`), offset, size, label."""

    shards: tuple[str, ...]

    def get(self, unit: int, row: int = 0) -> Sample:
        """Read a sample's members of its tar."""
        shard = self.shards[_cell(self.table, "shard", unit)]
        offset, size = _cell(self.table, "offset", unit), _cell(self.table, "size", unit)
        data = filesystem.read(filesystem.join(self.root, shard), offset, size)
        if len(data) < size:
            raise RejectedError("truncated", f"{shard} ends within it")
        return Sample(_cell(self.table, "name", unit), _cell(self.table, "label", unit), data)


@dataclass(frozen=True)
class Columns:
    """The columns of a Parquet row. `media` holds bytes, or a struct of bytes and path (Hugging Face)."""

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
        """The number of rows of each row group."""
        return self._numbers[-1]

    @cached_property
    def _numbers(self) -> tuple[np.ndarray, ...]:
        return tuple(self.table[column].to_numpy() for column in ("file", "group", "first", "rows"))

    def __len__(self) -> int:
        return int(self.units.sum())

    def name(self, unit: int, row: int) -> str:
        """Return a sample's name: its file and row."""
        file, group, first = self._place(unit)
        return f"{file}#{group}.{first + row}"

    def get(self, unit: int, row: int) -> Sample:
        """Read a sample's row."""
        file, group, first = self._place(unit)
        columns, at = self.columns, first + row
        media, labels, names = _group(filesystem.join(self.root, file), group, columns)
        value = media[at].as_py()
        name, data = (value.get("path"), value["bytes"]) if isinstance(value, dict) else (None, value)
        if names is not None:
            name = names[at].as_py()
        label = None if labels is None else labels[at].as_py()
        if data is None:
            raise RejectedError("empty", "no bytes in its row")
        return Sample(name or self.name(unit, row), NO_LABEL if label is None else int(label), data)

    def _place(self, unit: int) -> tuple[str, int, int]:
        file, group, first, _ = self._numbers
        return self.files[int(file[unit])], int(group[unit]), int(first[unit])

    def index(self) -> pa.Table:
        """Return the files with their sizes and row groups."""
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
        """Return a sample's name: its number."""
        return f"{self.images.rsplit('/', 1)[-1].split('.')[0]}#{unit}"

    def get(self, unit: int, row: int = 0) -> Sample:
        """Read a sample's pixels and label."""
        pictures, labels = idx_array(self.images), idx_array(self.labels)
        height, width = pictures.shape[1:]
        return Sample(self.name(unit), int(labels[unit]), b"P5 %d %d 255\n" % (width, height) + pictures[unit].tobytes())

    def index(self) -> pa.Table:
        """Return the checksums of the files."""
        labels = idx_array(self.labels)[: self.count]
        return pa.table({"file": [self.images.rsplit("/", 1)[-1]] * self.count, "label": labels})


def locate(root: str, name: str) -> str:
    """The file of a sample, as this node reaches it."""
    if root == PHOTOS:
        return str(sample_photos.locate(name))
    if root == MOTION:
        from vitok.data.corpora import sample_motion

        return str(sample_motion.locate(name))
    return filesystem.join(root, name)


def _cell(table: pa.Table, column: str, row: int) -> Any:
    return table[column][row].as_py()


@lru_cache(maxsize=12)  # more than the units of a window of `Rows`
def _group(uri: str, group: int, columns: Columns) -> tuple[pa.Array, pa.Array | None, pa.Array | None]:
    """Media, labels and names of a row group."""
    import pyarrow.parquet as pq

    wanted = (columns.media, columns.label, columns.name)

    def attempt() -> Any:
        with filesystem.open_file(uri) as file:
            table = pq.ParquetFile(file).read_row_group(group, columns=[name for name in wanted if name], use_threads=False)
        return tuple(table[name].combine_chunks() if name else None for name in wanted)

    try:
        return filesystem.retried(uri, attempt)
    except pa.ArrowInvalid as error:
        raise RejectedError("corrupt", str(error)) from None


@lru_cache(maxsize=4)
def idx_array(uri: str) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped."""
    import gzip

    data = filesystem.read(uri)
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise RejectedError("corrupt", f"{uri} is no IDX file of bytes")
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", data[3], 4))
    found = np.frombuffer(data, np.uint8, offset=4 + 4 * data[3])
    if found.size != int(np.prod(shape)):
        raise RejectedError("truncated", f"{uri} holds {found.size} bytes of {int(np.prod(shape))}")
    return found.reshape(shape)
