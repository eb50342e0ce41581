"""Splits: the samples of a corpus in units that are read together, each found by (unit, row).

A unit is one sample, or a run of rows of a Parquet row group. An Arrow table, compact and shared between the processes of a node, says
where each unit lies.
"""

import os
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from vitok.data.corpora import sample_photos
from vitok.data.sample import MOTION, NO_LABEL, PHOTOS, Sample
from vitok.errors import RejectedError
from vitok.storage import filesystem
from vitok.text import printable

Kind = Literal["image", "video"]


class Split(Protocol):
    """The interface of a split: `len` samples, addressed by unit and by row within the unit."""

    @property
    def units(self) -> np.ndarray | None:
        """The number of samples in each unit, (U,) integers; None where every unit is one sample."""
        ...

    @property
    def window(self) -> int:
        """The number of neighbouring units whose samples an epoch shuffles together; 1 where a unit is a random draw from the corpus
        already."""
        ...

    def __len__(self) -> int: ...

    def name(self, unit: int, row: int) -> str:
        """Return the name of a sample within the corpus, without reading the sample."""
        ...

    def get(self, unit: int, row: int) -> Sample:
        """Read one sample, still encoded. Raise `RejectedError` where it is gone or unreadable."""
        ...

    def index(self) -> pa.Table:
        """Return the table of all that is known without reading the samples; the corpus's fingerprint is a hash of it."""
        ...


@dataclass(frozen=True, eq=False)
class _Singles:
    """Base of splits whose units are single samples, one row of the table each."""

    root: str
    table: pa.Table
    units = None
    window = 1

    def __len__(self) -> int:
        return self.table.num_rows

    def name(self, unit: int, row: int = 0) -> str:
        """Return a sample's name, as it may be shown."""
        return printable(_cell(self.table, "name", unit))

    def index(self) -> pa.Table:
        """Return the table."""
        return self.table


@dataclass(frozen=True, eq=False)
class Files(_Singles):
    """A split of one file per sample. Table: name, size, label, and for spans of longer videos start and stop (seconds)."""

    kind: Kind

    def names(self) -> list[str]:
        """Return the paths of all files, below the root."""
        return [os.fsdecode(name) for name in self.table["name"].to_pylist()]

    def get(self, unit: int, row: int = 0) -> Sample:
        """Read the image's bytes; a video is not read: its sample holds the URI and the span."""
        name, label = _cell(self.table, "name", unit), _cell(self.table, "label", unit)
        uri, name = locate(self.root, name), printable(name)
        if self.kind == "image":
            return Sample(name, label, filesystem.read(uri))
        start = _cell(self.table, "start", unit) if "start" in self.table.column_names else None
        span = None if start is None else (start, _cell(self.table, "stop", unit))
        return Sample(name, label, uri=uri, span=span)


@dataclass(frozen=True, eq=False)
class Members(_Singles):
    """A split of tar members, read by byte range. Table: name, shard (index into `shards`), offset, size, label; offset and size in
    bytes of the tar."""

    shards: tuple[str, ...]

    def get(self, unit: int, row: int = 0) -> Sample:
        """Read the bytes of one member. Raise `RejectedError` ("truncated" where the tar ends within it)."""
        shard = self.shards[_cell(self.table, "shard", unit)]
        offset, size = _cell(self.table, "offset", unit), _cell(self.table, "size", unit)
        data = filesystem.read(filesystem.join(self.root, shard), offset, size)
        if len(data) < size:
            raise RejectedError("truncated", f"{shard} ends within it")
        return Sample(self.name(unit), _cell(self.table, "label", unit), data)


@dataclass(frozen=True)
class Columns:
    """The column names of a Parquet corpus. `media` holds bytes, or a struct of bytes and path (Hugging Face)."""

    media: str
    label: str | None
    name: str | None


@dataclass(frozen=True, eq=False)
class Rows:
    """A split whose units are runs of rows of a Parquet row group. Table: file (index into `files`), group, first, rows."""

    root: str
    files: tuple[str, ...]
    table: pa.Table
    columns: Columns
    window: int

    @property
    def units(self) -> np.ndarray:
        """The number of rows in each unit, (U,) integers."""
        return self._numbers[-1]

    @cached_property
    def _numbers(self) -> tuple[np.ndarray, ...]:
        return tuple(self.table[column].to_numpy() for column in ("file", "group", "first", "rows"))

    def __len__(self) -> int:
        return int(self.units.sum())

    def name(self, unit: int, row: int) -> str:
        """Return file#group.row, the address of a row."""
        file, group, first = self._place(unit)
        return f"{file}#{group}.{first + row}"

    def get(self, unit: int, row: int) -> Sample:
        """Read one row; the row group is cached. Raise `RejectedError` ("empty" where the row has no bytes, "corrupt")."""
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
        return Sample(printable(name or self.name(unit, row)), NO_LABEL if label is None else int(label), data)

    def _place(self, unit: int) -> tuple[str, int, int]:
        file, group, first, _ = self._numbers
        return self.files[int(file[unit])], int(group[unit]), int(first[unit])

    def index(self) -> pa.Table:
        """Return the table of the units; labels are within the Parquet files and not part of it."""
        return self.table


@dataclass(frozen=True, eq=False)
class Idx:
    """A split of grey images in an IDX file (the MNIST family). Each sample is handed on as a PGM file."""

    images: str
    labels: str
    count: int
    units = None
    window = 1

    def __len__(self) -> int:
        return self.count

    def name(self, unit: int, row: int = 0) -> str:
        """Return file#row, the address of an image."""
        return f"{self.images.rsplit('/', 1)[-1].split('.')[0]}#{unit}"

    def get(self, unit: int, row: int = 0) -> Sample:
        """Return one image as an encoded PGM file, with its label."""
        pictures, labels = idx_array(self.images), idx_array(self.labels)
        height, width = pictures.shape[1:]
        return Sample(self.name(unit), int(labels[unit]), b"P5 %d %d 255\n" % (width, height) + pictures[unit].tobytes())

    def index(self) -> pa.Table:
        """Return a table of file and label for each image."""
        labels = idx_array(self.labels)[: self.count]
        return pa.table({"file": [self.images.rsplit("/", 1)[-1]] * self.count, "label": labels})


@dataclass(frozen=True, eq=False)
class OnBackground:
    """A split whose pictures are seen on a colour where they are transparent."""

    split: Split
    background: str

    @property
    def units(self) -> np.ndarray | None:
        """The number of samples in each unit, as of the split."""
        return self.split.units

    @property
    def window(self) -> int:
        """The number of units that are shuffled together, as of the split."""
        return self.split.window

    def __len__(self) -> int:
        return len(self.split)

    def name(self, unit: int, row: int = 0) -> str:
        """Return a sample's name."""
        return self.split.name(unit, row)

    def get(self, unit: int, row: int = 0) -> Sample:
        """Read one sample, with the colour behind it."""
        return replace(self.split.get(unit, row), background=self.background)

    def index(self) -> pa.Table:
        """Return the table of the split, with the colour as a column: another colour is another corpus."""
        found = self.split.index()
        return found.append_column("background", pa.array([self.background] * len(found), pa.string()))


def locate(root: str, name: str) -> str:
    """Return the local path or URI of a sample's file; files of the embedded corpora are found or rendered on this machine."""
    if root == PHOTOS:
        return str(sample_photos.locate(name))
    if root == MOTION:
        from vitok.data.corpora import sample_motion

        return str(sample_motion.locate(name))
    return filesystem.join(root, name)


def _cell(table: pa.Table, column: str, row: int) -> Any:
    """Return a cell of an index; a name that is not UTF-8 with its bytes kept as Python keeps them (PEP 383)."""
    value = table[column][row].as_py()
    return os.fsdecode(value) if isinstance(value, bytes) else value


@lru_cache(maxsize=12)  # more than the units of a window of `Rows`
def _group(uri: str, group: int, columns: Columns) -> tuple[pa.Array, pa.Array | None, pa.Array | None]:
    """Return the columns (media, labels, names) of a row group."""
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
    """Return the array of an IDX file of unsigned bytes, plain or gzipped: (N,) labels or (N, H, W) images, uint8. Raise `RejectedError`
    ("corrupt", "truncated")."""
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
