"""Reading images with their two embeddings from a Parquet file, a batch of rows at a time.

| column | type | |
| --- | --- | --- |
| `image_id` | string, or a dictionary of strings | required |
| `search` | list or fixed-size list of float16 or float32 | required, as long as the signal's search embedding |
| `score` | the same | required, as long as the signal's score embedding |
| `image_version` | whole number, 0 to 2^53 - 1 | 1 where it is missing or null |
| `created_at` | timestamp (UTC without a zone) or whole ms since the epoch | unknown where missing or null |
| `place` | whole number, 0 or more | required where an index is built; not read otherwise |

Other columns are not read. Whether the numbers make sense (finite, not all zero) is checked by the stream, as for any
other producer; a row that fails lands in `dead-letter`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core.errors import BadInputError
from core.notifications import LATEST_TIME_MS, MAX_IMAGE_VERSION
from neardup.events_pb2 import FLOAT16, FLOAT32, ElementType

__all__ = ["ImageFile", "ImageRow", "Vector"]

_BATCH_ROWS = 256
"""Rows held at once: about 1 MB of the sample's embeddings."""

_READ_BUFFER_BYTES = 1 << 20
"""Column chunks are read in pieces of this size; without it a whole row group would be held."""

_DEFAULT_VERSION = 1

NO_PLACE = -1
"""The place of a row of a file that was opened without places."""

_HIGHEST = {"image_version": MAX_IMAGE_VERSION, "created_at": LATEST_TIME_MS, "place": 2**63 - 1}
"""The highest number of each column."""

_COLUMNS = ("image_id", "search", "score", "image_version", "created_at", "place")
"""All columns that are read."""

_BEFORE_1970 = ": a notification has no times before 1970, so leave it null"

_ELEMENT_TYPES: dict[Any, tuple[ElementType.ValueType, str]] = {
    pa.float16(): (FLOAT16, "<f2"),
    pa.float32(): (FLOAT32, "<f4"),
}


@dataclass(frozen=True, slots=True)
class Vector:
    """One embedding as it travels: little-endian numbers of one type."""

    element_type: ElementType.ValueType
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One version of one image with both embeddings; `created_at_ms` is 0 where it is not known."""

    image_id: str
    version: int
    created_at_ms: int
    search: Vector
    score: Vector
    place: int = NO_PLACE
    """The image version's place in the order, where the file was opened with places."""


@dataclass(frozen=True, slots=True)
class _VectorColumn:
    name: str
    element_type: ElementType.ValueType
    dtype: str
    dimension: int


class ImageFile:
    """A Parquet file of images. Iterating reads it from the start, in constant memory."""

    def __init__(self, path: Path, search_dimension: int, score_dimension: int, *, with_places: bool = False) -> None:
        """Opens the file and checks its columns.

        Args:
            path: The file.
            search_dimension: Of the search embedding.
            score_dimension: Of the score embedding.
            with_places: Whether the file must have a column `place`.

        Raises:
            BadInputError: It is no Parquet file, or a column is missing or of another type or dimension.
        """
        self.path = path
        try:
            self._file = pq.ParquetFile(path, buffer_size=_READ_BUFFER_BYTES, pre_buffer=False)
        except OSError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror or error}") from error
        except pa.ArrowException as error:
            raise BadInputError(f"{path} is not a Parquet file: {error}") from error
        self.rows: int = self._file.metadata.num_rows
        schema = self._file.schema_arrow
        self._check_names(schema)
        self._check_id(schema)
        self._vectors = (
            self._vector_column(schema, "search", search_dimension),
            self._vector_column(schema, "score", score_dimension),
        )
        self._check_optional(schema)
        wanted = ["image_id", "search", "score", "image_version", "created_at"]
        if with_places:
            self._check_places(schema)
            wanted.append("place")
        self._columns = [name for name in wanted if name in schema.names]

    def __iter__(self) -> Iterator[ImageRow]:
        """Every row, in the file's order. Raises as `rows_from`."""
        return self.rows_from(0)

    def rows_from(self, start: int) -> Iterator[ImageRow]:
        """The rows from number `start` on, in the file's order. What is wrong with earlier rows does not matter.

        Raises:
            BadInputError: A row has no id, or a vector that is missing or of another dimension; the message names it.
        """
        first = 0
        try:
            for batch in self._file.iter_batches(_BATCH_ROWS, columns=self._columns):
                passed = min(max(0, start - first), batch.num_rows)
                yield from self._rows_before_a_bad_one(batch.slice(passed), first + passed)
                first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise BadInputError(self._unreadable(first, error)) from error

    def last_place(self) -> int:
        """The highest place, of a file that was opened with places; `NO_PLACE` for a file without rows.

        Raises:
            BadInputError: The column cannot be read.
        """
        try:
            column = self._file.read(columns=["place"]).column("place")
        except (OSError, pa.ArrowException) as error:
            raise BadInputError(f"{self.path}: column place cannot be read: {error}") from error
        highest = pc.max(column).as_py()
        return NO_PLACE if highest is None else int(highest)

    def _unreadable(self, first: int, error: Exception) -> str:
        """What Arrow cannot read at row `first` or later. It refuses null rows of fixed-size lists by itself."""
        schema = self._file.schema_arrow
        lists = [each.name for each in self._vectors if pa.types.is_fixed_size_list(schema.field(each.name).type)]
        found = {name: row for name in lists if (row := self._null_or_damaged(name, first)) is not None}
        if not found:
            return f"{self.path} cannot be read after row {first}: {error}. The file is damaged"
        name = min(found, key=lambda name: found[name])
        return (
            f"{self.path}: row {found[name]}: column {name} is null or damaged ({error}): fill the row, or leave it out"
        )

    def _null_or_damaged(self, name: str, first: int) -> int | None:
        """The first row of a column that cannot be read, in the row group of row `first` or later."""
        row = group = 0
        while row + (rows := self._file.metadata.row_group(group).num_rows) <= first:
            row, group = row + rows, group + 1
        groups = range(group, self._file.num_row_groups)
        try:
            for _ in self._file.iter_batches(1, row_groups=groups, columns=[name]):
                row += 1
        except (OSError, pa.ArrowException):
            return row
        return None

    def _check_names(self, schema: Any) -> None:
        for name in _COLUMNS:
            count = schema.names.count(name)
            if count > 1:
                raise BadInputError(f"{self.path} has {count} columns of the name {name}: keep one of them")

    def _check_places(self, schema: Any) -> None:
        kind = self._type(schema, "place")
        if not pa.types.is_integer(kind):
            raise BadInputError(f"{self.path}: column place must hold whole numbers, it holds {kind}")

    def _check_id(self, schema: Any) -> None:
        kind = self._type(schema, "image_id")
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise BadInputError(f"{self.path}: column image_id must hold strings, it holds {kind}")

    def _check_optional(self, schema: Any) -> None:
        if "image_version" in schema.names and not pa.types.is_integer(schema.field("image_version").type):
            kind = schema.field("image_version").type
            raise BadInputError(f"{self.path}: column image_version must hold whole numbers, it holds {kind}")
        if "created_at" in schema.names:
            kind = schema.field("created_at").type
            if not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind)):
                raise BadInputError(
                    f"{self.path}: column created_at must hold timestamps or whole milliseconds, it holds {kind}"
                )

    def _vector_column(self, schema: Any, name: str, dimension: int) -> _VectorColumn:
        kind = self._type(schema, name)
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not is_list or kind.value_type not in _ELEMENT_TYPES:
            raise BadInputError(f"{self.path}: column {name} must hold lists of float16 or float32, it holds {kind}")
        if pa.types.is_fixed_size_list(kind) and kind.list_size != dimension:
            raise BadInputError(
                f"{self.path}: column {name} holds vectors of {kind.list_size} numbers, the signal's have {dimension}"
            )
        element_type, dtype = _ELEMENT_TYPES[kind.value_type]
        return _VectorColumn(name, element_type, dtype, dimension)

    def _type(self, schema: Any, name: str) -> Any:
        if name not in schema.names:
            found = ", ".join(schema.names) or "none"
            raise BadInputError(f"{self.path} has no column {name}; its columns are {found}")
        return schema.field(name).type

    def _rows_before_a_bad_one(self, batch: Any, first: int) -> Iterator[ImageRow]:
        """The rows of a batch, read together; if one of them is bad, one by one."""
        try:
            rows = list(self._rows(batch, first))
        except BadInputError:
            for number in range(batch.num_rows):
                yield from self._rows(batch.slice(number, 1), first + number)
            raise
        yield from rows

    def _rows(self, batch: Any, first: int) -> Iterator[ImageRow]:
        ids = batch.column("image_id")
        self._refuse_nulls(ids, "image_id", first)
        versions = self._numbers(batch, "image_version", _DEFAULT_VERSION, first)
        created = self._numbers(batch, "created_at", 0, first)
        search, score = (self._vector_rows(batch.column(column.name), column, first) for column in self._vectors)
        places = self._places(batch, first)
        for row in zip(self._texts(ids, first), versions, created, search, score, places, strict=True):
            yield ImageRow(*row)

    def _texts(self, ids: Any, first: int) -> list[str]:
        if pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_decode()
        try:
            texts: list[str] = ids.to_pylist()
        except UnicodeDecodeError:
            # Parquet's strings are not checked when they are read.
            found = ids.cast(pa.large_binary() if pa.types.is_large_string(ids.type) else pa.binary()).to_pylist()
            row = next(row for row, text in enumerate(found) if not _is_utf8(text))
            raise BadInputError(
                f"{self.path}: row {first + row}: column image_id holds {found[row][:80]!r}, which is not UTF-8"
            ) from None
        return texts

    def _vector_rows(self, lists: Any, column: _VectorColumn, first: int) -> Iterator[Vector]:
        self._refuse_nulls(lists, column.name, first)
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != column.dimension)
        if wrong.size:
            row = int(wrong[0])
            raise BadInputError(
                f"{self.path}: row {first + row}: column {column.name} has {lengths[row]} numbers, the signal's"
                f" embedding has {column.dimension}"
            )
        values = lists.flatten()
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // column.dimension
            raise BadInputError(f"{self.path}: row {first + row}: column {column.name} has a null among its numbers")
        matrix = values.to_numpy(zero_copy_only=False).astype(column.dtype, copy=False).reshape(-1, column.dimension)
        for vector in matrix:
            yield Vector(column.element_type, vector.tobytes())

    def _places(self, batch: Any, first: int) -> list[int]:
        if "place" not in batch.schema.names:
            return [NO_PLACE] * int(batch.num_rows)
        self._refuse_nulls(batch.column("place"), "place", first)
        return self._numbers(batch, "place", NO_PLACE, first)

    def _numbers(self, batch: Any, name: str, default: int, first: int) -> list[int]:
        if name not in batch.schema.names:
            return [default] * int(batch.num_rows)
        column = batch.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
        numbers: list[int] = pc.fill_null(column, default).to_pylist()
        for row, number in enumerate(numbers):
            if not 0 <= number <= _HIGHEST[name]:
                raise BadInputError(
                    f"{self.path}: row {first + row}: column {name} is {number}, not 0 to {_HIGHEST[name]}"
                    f"{_BEFORE_1970 if name == 'created_at' and number < 0 else ''}"
                )
        return numbers

    def _refuse_nulls(self, column: Any, name: str, first: int) -> None:
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise BadInputError(f"{self.path}: row {first + row}: column {name} is null")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
