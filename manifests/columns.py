"""Reading columns of Parquet by name: each value is checked, and what is wrong is named by file, row and column."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import BadInputError, UnavailableError

__all__ = ["BadValueError", "ColumnFile", "Found", "Places", "VectorColumn"]

_READ_BUFFER_BYTES = 1 << 20
"""Column chunks are read in pieces of this size; without it a whole row group would be held."""

_DTYPES: dict[Any, np.dtype[Any]] = {pa.float16(): np.dtype("<f2"), pa.float32(): np.dtype("<f4")}


class BadValueError(BadInputError):
    """A value of one row is wrong."""

    def __init__(self, path: Path, row: int, problem: str) -> None:
        super().__init__(f"{path}: row {row}: {problem}")
        self.row = row
        """Its number in the file."""
        self.problem = problem
        """With the name of the column."""


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """A column of embeddings of one element type."""

    name: str
    dtype: np.dtype[Any]
    dimension: int


@dataclass(frozen=True, slots=True)
class Places:
    """Some rows of a file, of which a message names one."""

    path: Path
    first: int
    """The number of the first of them in the file."""

    def error(self, row: int, name: str, problem: str) -> BadValueError:
        """What is wrong with a column of one of these rows, counted from the first."""
        return BadValueError(self.path, self.first + row, f"column {name} {problem}")


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Some rows of a file, by column."""

    rows: Places
    batch: Any
    """A record batch."""

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def one_by_one(self) -> Iterator[Found]:
        """Each row by itself."""
        for row in range(len(self)):
            yield Found(Places(self.rows.path, self.rows.first + row), self.batch.slice(row, 1))

    def has(self, name: str) -> bool:
        """Whether the column was read."""
        return name in self.batch.schema.names

    def texts(self, name: str, *, nullable: bool = False) -> list[Any]:
        """Strings.

        Raises:
            BadInputError: One is null, unless it may be, or is no UTF-8.
        """
        column = self._column(name, nullable)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        try:
            # Five times as fast as `to_pylist`.
            texts: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
        except pa.ArrowException:
            # Parquet's strings are not checked when they are read.
            large = pa.types.is_large_string(column.type)
            found = column.cast(pa.large_binary() if large else pa.binary()).to_pylist()
            row = next(row for row, text in enumerate(found) if text is not None and not _is_utf8(text))
            raise self.rows.error(row, name, f"holds {found[row][:80]!r}, which is not UTF-8") from None
        return texts

    def numbers(self, name: str, default: int, highest: int, hint: str = "") -> NDArray[np.int64]:
        """(rows,) whole numbers from 0, or times in milliseconds; nulls and a missing column are the default.

        Raises:
            BadInputError: One is negative, or above the highest.
        """
        if not self.has(name):
            return np.full(len(self), default, np.int64)
        column = self.batch.column(name)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms", column.type.tz), safe=False).cast(pa.int64())
        low, high = pc.min_max(column).as_py().values()
        if low is not None and (low < 0 or high > highest):
            row, number = next(
                (r, n) for r, n in enumerate(column.to_pylist()) if n is not None and not 0 <= n <= highest
            )
            raise self.rows.error(row, name, f"is {number}, not 0 to {highest}{hint if number < 0 else ''}")
        numbers: NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), default).to_numpy(zero_copy_only=False)
        return numbers

    def vectors(self, column: VectorColumn) -> NDArray[Any]:
        """(rows, dimension) numbers of the column's type.

        Raises:
            BadInputError: A vector is null, of another dimension, or holds a null.
        """
        lists = self._column(column.name, nullable=False)
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != column.dimension)
        if wrong.size:
            row = int(wrong[0])
            problem = f"has {lengths[row]} numbers, the signal's embedding has {column.dimension}"
            raise self.rows.error(row, column.name, problem)
        values = lists.flatten()
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // column.dimension
            raise self.rows.error(row, column.name, "has a null among its numbers")
        numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False).astype(column.dtype, copy=False)
        return numbers.reshape(-1, column.dimension)

    def scores(self, name: str) -> NDArray[np.float64]:
        """(rows,) numbers from 0 to 1; NaN where one is null or the column is missing.

        Raises:
            BadInputError: One is outside.
        """
        if not self.has(name):
            return np.full(len(self), np.nan)
        column = self.batch.column(name).cast(pa.float64())
        numbers: NDArray[np.float64] = column.to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(~((numbers >= 0) & (numbers <= 1)) & ~column.is_null().to_numpy(zero_copy_only=False))
        if wrong.size:
            raise self.rows.error(int(wrong[0]), name, f"is {numbers[wrong[0]]}, not 0 to 1")
        return numbers

    def blobs(self, name: str, length: int) -> list[bytes | None]:
        """Bytes of one length; None where they are null or the column is missing.

        Raises:
            BadInputError: One has another length.
        """
        if not self.has(name):
            return [None] * len(self)
        found: list[bytes | None] = self.batch.column(name).to_numpy(zero_copy_only=False).tolist()
        for row, blob in enumerate(found):
            if blob is not None and len(blob) != length:
                raise self.rows.error(row, name, f"has {len(blob)} bytes, the signal's codes have {length}")
        return found

    def bytes_of(self, name: str, length: int) -> NDArray[np.uint8]:
        """(rows, length) bytes of a column of bytes.

        Raises:
            BadInputError: One is null or has another length.
        """
        column = self._column(name, nullable=False)
        if pa.types.is_fixed_size_binary(column.type) and column.type.byte_width == length:
            content = column.buffers()[1]
            return np.frombuffer(content, np.uint8, len(column) * length, column.offset * length).reshape(-1, length)
        blobs = self.blobs(name, length)
        return np.frombuffer(b"".join(blob for blob in blobs if blob is not None), np.uint8).reshape(-1, length)

    def words(self, name: str, width: int, highest: int) -> NDArray[np.uint32]:
        """(rows, width) whole numbers of a column of lists.

        Raises:
            BadInputError: A list is null or has another length, or a number is above the highest.
        """
        lists = self._column(name, nullable=False)
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(lengths != width)
        if wrong.size:
            raise self.rows.error(int(wrong[0]), name, f"has {lengths[wrong[0]]} terms, the signal's have {width}")
        values = lists.flatten()
        if values.null_count:
            row = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]) // width
            raise self.rows.error(row, name, "has a null among its terms")
        words: NDArray[np.uint32] = values.to_numpy(zero_copy_only=False).astype(np.uint32, copy=False)
        above = np.flatnonzero(words > highest)
        if above.size:
            raise self.rows.error(int(above[0]) // width, name, f"has the term {words[above[0]]}, above {highest}")
        return words.reshape(-1, width)

    def check_no_null(self, name: str) -> None:
        """Raises `BadInputError` if a value is null."""
        self._column(name, nullable=False)

    def _column(self, name: str, nullable: bool) -> Any:
        column = self.batch.column(name)
        if column.null_count and not nullable:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise self.rows.error(row, name, "is null")
        return column


class ColumnFile:
    """An open Parquet file whose columns are checked before a row is read."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            BadInputError: It is not there, or is no Parquet file.
            UnavailableError: The disk does not answer.
        """
        self.path = path
        try:
            self._file = pq.ParquetFile(path, buffer_size=_READ_BUFFER_BYTES, pre_buffer=False)
        except FileNotFoundError as error:
            raise BadInputError(f"cannot read {path}: {error.strerror}") from error
        except OSError as error:
            _check_answers(path, error)
            raise BadInputError(f"cannot read {path}: {error}") from error
        except pa.ArrowException as error:
            raise BadInputError(f"{path} is not a Parquet file: {error}") from error
        self.rows: int = self._file.metadata.num_rows
        self._schema = self._file.schema_arrow

    @property
    def names(self) -> Sequence[str]:
        """The names of all columns."""
        return list(self._schema.names)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The key-value metadata of the file."""
        return dict(self._schema.metadata or {})

    def read(self, columns: Sequence[str], at_once: int, start: int = 0) -> Iterator[Found]:
        """The rows from number `start` on, in the file's order, in constant memory.

        Raises:
            BadInputError: The file is damaged.
            UnavailableError: The disk does not answer.
        """
        first = group = 0
        while group < self._file.num_row_groups and first + (rows := self._group_rows(group)) <= start:
            first, group = first + rows, group + 1
        groups = range(group, self._file.num_row_groups)
        try:
            for batch in self._file.iter_batches(at_once, row_groups=groups, columns=list(columns)):
                passed = min(max(0, start - first), batch.num_rows)
                if passed < batch.num_rows:
                    yield Found(Places(self.path, first + passed), batch.slice(passed))
                first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            _check_answers(self.path, error)
            raise BadInputError(self._unreadable(columns, first, error)) from error

    def check_once(self, names: Sequence[str]) -> None:
        """Raises `BadInputError` if two columns have one of these names."""
        for name in names:
            count = self._schema.names.count(name)
            if count > 1:
                raise BadInputError(f"{self.path} has {count} columns of the name {name}: keep one of them")

    def check_texts(self, name: str) -> None:
        """Raises `BadInputError` unless the column is there and holds strings."""
        kind = self.kind(name)
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise BadInputError(f"{self.path}: column {name} must hold strings, it holds {kind}")

    def check_whole_numbers(self, name: str) -> None:
        """Raises `BadInputError` unless the column is there and holds whole numbers."""
        kind = self.kind(name)
        if not pa.types.is_integer(kind):
            raise BadInputError(f"{self.path}: column {name} must hold whole numbers, it holds {kind}")

    def check_lists_of_words(self, name: str) -> None:
        """Raises `BadInputError` unless the column is there and holds lists of uint32."""
        kind = self.kind(name)
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not is_list or kind.value_type != pa.uint32():
            raise BadInputError(f"{self.path}: column {name} must hold lists of uint32, it holds {kind}")

    def check_blobs(self, name: str) -> None:
        """Raises `BadInputError` unless the column is there and holds bytes."""
        kind = self.kind(name)
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)):
            raise BadInputError(f"{self.path}: column {name} must hold bytes, it holds {kind}")

    def check_scores(self, name: str) -> None:
        """Raises `BadInputError` unless the column is there and holds numbers."""
        kind = self.kind(name)
        if not pa.types.is_floating(kind):
            raise BadInputError(f"{self.path}: column {name} must hold floats, it holds {kind}")

    def check_times(self, name: str) -> None:
        """Raises `BadInputError` unless the column is there and holds times."""
        kind = self.kind(name)
        if not (pa.types.is_timestamp(kind) or pa.types.is_integer(kind)):
            raise BadInputError(
                f"{self.path}: column {name} must hold timestamps or whole milliseconds, it holds {kind}"
            )

    def vector_column(self, name: str, dimension: int) -> VectorColumn:
        """A column of embeddings.

        Raises:
            BadInputError: It is not there, or holds something else.
        """
        kind = self.kind(name)
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not is_list or kind.value_type not in _DTYPES:
            raise BadInputError(f"{self.path}: column {name} must hold lists of float16 or float32, it holds {kind}")
        if pa.types.is_fixed_size_list(kind) and kind.list_size != dimension:
            raise BadInputError(
                f"{self.path}: column {name} holds vectors of {kind.list_size} numbers, the signal's have {dimension}"
            )
        return VectorColumn(name, _DTYPES[kind.value_type], dimension)

    def kind(self, name: str) -> Any:
        """The type of a column.

        Raises:
            BadInputError: There is no such column.
        """
        if name not in self._schema.names:
            found = ", ".join(self._schema.names) or "none"
            raise BadInputError(f"{self.path} has no column {name}; its columns are {found}")
        return self._schema.field(name).type

    def _group_rows(self, group: int) -> int:
        rows: int = self._file.metadata.row_group(group).num_rows
        return rows

    def _unreadable(self, columns: Sequence[str], first: int, error: Exception) -> str:
        """What Arrow cannot read at row `first` or later. It refuses null rows of fixed-size lists by itself."""
        lists = [each for each in columns if pa.types.is_fixed_size_list(self._schema.field(each).type)]
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
        while row + (rows := self._group_rows(group)) <= first:
            row, group = row + rows, group + 1
        groups = range(group, self._file.num_row_groups)
        try:
            for _ in self._file.iter_batches(1, row_groups=groups, columns=[name]):
                row += 1
        except (OSError, pa.ArrowException) as error:
            _check_answers(self.path, error)
            return row
        return None


def _check_answers(path: Path, error: Exception) -> None:
    """Raises `UnavailableError` for an error of the system; those of Arrow about the content have no number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise UnavailableError(f"cannot read {path}: {os.strerror(error.errno)}") from error


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
