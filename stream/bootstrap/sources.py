"""Files of another system, batch by batch: Parquet, or CSV (`.csv`, `.tsv`, also compressed).

Columns have the names that the user gives. The readers here choose rows and bring values into the types that
`manifests.columns.Found` reads, which names what is wrong by file and row.

| what | Parquet | CSV |
| --- | --- | --- |
| ids, cause | strings, whole numbers | any text |
| clusters | the same; an empty one is none | any text; an empty one is none |
| version | numbers | a whole number |
| time | timestamps, dates, whole ms since the epoch | whole ms, or a time such as `2025-11-01T12:00:00Z` |
| score of the match | numbers | a number |
| embedding | lists of numbers; or one column a number | numbers with commas or spaces between; or one column a number |
"""

from __future__ import annotations

import csv
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from core.errors import BadInputError
from manifests.columns import BadValueError, ColumnFile, Found, Places, VectorColumn

__all__ = ["BATCH_ROWS", "KEYS", "VECTORS", "Columns", "Raw", "Source", "open_source", "vector_column"]

BATCH_ROWS = 1024
"""Rows that are read at once: 8 MB of the sample's embeddings in float32."""

_CSV_BLOCK_BYTES = 32 << 20
"""CSV is parsed in pieces of this size; no row may be longer."""

VECTORS = ("search", "score")
"""What holds the embeddings."""

KEYS = ("image_id", "image_version", "created_at", "cluster", "cause", "probability", "matched")
"""Everything else."""

_MILLISECONDS = (pa.int64(), pa.timestamp("ms", "UTC"), pa.timestamp("ms"))


@dataclass(frozen=True, slots=True)
class Columns:
    """The user's names; None: a column of the name here is taken if there is one.

    An embedding's name that ends in `*` stands for columns of single numbers: `emb_*` for `emb_0`, `emb_1` and so on.
    """

    image_id: str = "image_id"
    cluster: str = "head"
    search: str = "search"
    score: str = "score"
    image_version: str | None = None
    created_at: str | None = None
    cause: str | None = None
    probability: str | None = None
    matched: str | None = None

    def found_in(self, path: Path, names: Sequence[str], embeddings: Collection[str]) -> dict[str, str]:
        """The user's name of each column that a file has.

        Args:
            path: The file.
            names: Of its columns.
            embeddings: Which of `VECTORS` are looked for.

        Raises:
            BadInputError: One is missing, or there twice.
        """
        found: dict[str, str] = {}
        for field in fields(self):
            if field.name in VECTORS and field.name not in embeddings:
                continue
            wanted: str | None = getattr(self, field.name)
            name = wanted or field.name
            if name.endswith("*") and field.name in VECTORS:
                found[field.name] = name
                continue
            count = list(names).count(name)
            if count > 1:
                raise BadInputError(f"{path} has {count} columns of the name {name}: keep one of them")
            if count:
                found[field.name] = name
            elif wanted is not None:
                raise BadInputError(
                    f"{path} has no column {name}{_ADVICE.get(field.name, '')}; its columns are {_list(names)}"
                )
        return found


_ADVICE = {
    "search": ": images are taken with their embeddings, pictures alone cannot be embedded here",
    "score": ": images are taken with their embeddings, pictures alone cannot be embedded here",
    "cluster": ": name the one with the heads, or with any names of clusters",
}


@dataclass(frozen=True, slots=True)
class _ChosenRows(Places):
    """Some rows of a file, in any choice, and the names that the user gave its columns."""

    numbers: NDArray[np.int64]
    names: Mapping[str, str]

    def error(self, row: int, name: str, problem: str) -> BadValueError:
        """See `Places.error`."""
        return BadValueError(self.path, int(self.numbers[row]), f"column {self.names.get(name, name)} {problem}")


class Source(ABC):
    """One file."""

    rows: int | None
    """None: not known before it is read."""

    def __init__(self, path: Path, names: Sequence[str], columns: Columns, dimensions: Mapping[str, int]) -> None:
        self.path = path
        self._names = columns.found_in(path, names, dimensions)
        self._dimensions = dimensions
        self._parts = {
            what: _numbered(path, name, names, dimensions[what])
            for what, name in self._names.items()
            if name.endswith("*") and what in VECTORS
        }

    def has(self, what: str) -> bool:
        """Whether there is such a column."""
        return what in self._names

    def batches(self, what: Sequence[str]) -> Iterator[Raw]:
        """All rows, in their order.

        Args:
            what: Which of `KEYS` and `VECTORS` are read; those that are missing are passed.

        Raises:
            BadInputError: The file is damaged.
        """
        wanted = [each for each in what if each in self._names]
        read = dict.fromkeys(name for each in wanted for name in self._parts.get(each, [self._names[each]]))
        for first, batch in self._read(list(read)):
            yield Raw(self, wanted, first, batch)

    @abstractmethod
    def is_half(self, what: str) -> bool:
        """Whether an embedding is in float16; else it is taken as float32."""

    @abstractmethod
    def _read(self, names: list[str]) -> Iterator[tuple[int, Any]]:
        """The number of the first row, and a record batch."""

    def typed(self, raw: Raw, chosen: NDArray[np.int64]) -> Found:
        """Some rows of a batch, by what they are."""
        batch = raw.batch if len(chosen) == raw.batch.num_rows else raw.batch.take(pa.array(chosen))
        rows = _ChosenRows(self.path, raw.first, raw.first + chosen, self._names)
        columns = {}
        for what in raw.what:
            if what in self._parts:
                columns[what] = _stacked([batch.column(name) for name in self._parts[what]], rows, what)
            else:
                columns[what] = _TYPED[what](batch.column(self._names[what]), rows, what)
        return Found(rows, pa.RecordBatch.from_pydict(columns))


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """Rows as they lie in the file."""

    source: Source
    what: Sequence[str]
    first: int
    """The number of the first of them in the file."""
    batch: Any

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def typed(self, chosen: NDArray[np.int64] | None = None) -> Found:
        """All rows, or chosen ones, counted from the first.

        Raises:
            BadInputError: A value is of another kind; the message names file, row and column.
        """
        return self.source.typed(self, np.arange(len(self)) if chosen is None else chosen)


class _ParquetSource(Source):
    def __init__(self, path: Path, columns: Columns, dimensions: Mapping[str, int]) -> None:
        self._file = ColumnFile(path)
        self.rows = self._file.rows
        super().__init__(path, self._file.names, columns, dimensions)
        for what in dimensions:
            if what not in self._parts:
                _check_lists(path, self._names[what], self._file.kind(self._names[what]))

    def is_half(self, what: str) -> bool:
        names = self._parts.get(what)
        if names is not None:
            return all(self._file.kind(name) == pa.float16() for name in names)
        kind = self._file.kind(self._names[what])
        return not _is_text(kind) and bool(kind.value_type == pa.float16())

    def _read(self, names: list[str]) -> Iterator[tuple[int, Any]]:
        for found in self._file.read(names, BATCH_ROWS):
            yield found.rows.first, found.batch


class _CsvSource(Source):
    rows = None

    def __init__(self, path: Path, columns: Columns, dimensions: Mapping[str, int]) -> None:
        self._delimiter = "\t" if ".tsv" in path.suffixes else ","
        super().__init__(path, _header(path, self._delimiter), columns, dimensions)

    def is_half(self, what: str) -> bool:
        return False

    def _read(self, names: list[str]) -> Iterator[tuple[int, Any]]:
        first = 0
        try:
            with pa_csv.open_csv(
                str(self.path),
                pa_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
                pa_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                # Texts are not checked here: who reads them names the row of one that is not UTF-8.
                pa_csv.ConvertOptions(
                    check_utf8=False,
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=names,
                    null_values=[""],
                    strings_can_be_null=True,
                ),
            ) as reader:
                for block in reader:
                    for start in range(0, block.num_rows, BATCH_ROWS):
                        batch = block.slice(start, BATCH_ROWS)
                        yield first, batch
                        first += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            raise BadInputError(f"{self.path} cannot be read after row {first}: {error}") from error


def open_source(path: Path, columns: Columns, dimensions: Mapping[str, int]) -> Source:
    """Opens a file and looks for its columns.

    Args:
        path: The file; its ending tells what it is.
        columns: The names of its columns.
        dimensions: Those of `VECTORS`; without one its column is not looked for.

    Raises:
        BadInputError: It cannot be read, or a column is missing or of another kind.
    """
    kind = _CsvSource if {".csv", ".tsv"} & set(path.suffixes) else _ParquetSource
    return kind(path, columns, dimensions)


def vector_column(what: str, sources: Sequence[Source], dimension: int) -> VectorColumn:
    """How an embedding is read of all files: as float16 only if all have that."""
    half = all(source.is_half(what) for source in sources)
    return VectorColumn(what, np.dtype("<f2" if half else "<f4"), dimension)


def _header(path: Path, delimiter: str) -> list[str]:
    try:
        # What follows is read by the way, and need not be UTF-8.
        with (
            pa.input_stream(str(path)) as stream,
            io.TextIOWrapper(stream, "utf-8-sig", errors="surrogateescape", newline="") as text,
        ):
            names = next(csv.reader(text, delimiter=delimiter), [])
        for name in names:
            name.encode()
    except OSError as error:
        raise BadInputError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeEncodeError, csv.Error, pa.ArrowException) as error:
        raise BadInputError(f"{path} does not begin with the names of columns: {error}") from error
    return names


def _numbered(path: Path, name: str, names: Sequence[str], dimension: int) -> list[str]:
    """The columns that `emb_*` stands for, by their numbers."""
    pattern = re.compile(re.escape(name[:-1]) + r"(\d+)")
    found = {int(match[1]): each for each in names if (match := pattern.fullmatch(each))}
    if len(found) != dimension:
        raise BadInputError(
            f"{path} has {len(found)} columns {name} with a number, the signal's embedding has {dimension}; "
            f"its columns are {_list(names)}"
        )
    return [found[number] for number in sorted(found)]


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:40]) or "none"
    return shown if len(names) <= 40 else f"{shown}, and {len(names) - 40} more"


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _check_lists(path: Path, name: str, kind: Any) -> None:
    if not _is_text(kind) and not (_is_list(kind) and _is_number(kind.value_type)):
        raise BadInputError(f"{path}: column {name} must hold lists of numbers, it holds {kind}")


def _texts(column: Any, rows: _ChosenRows, what: str) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_text(column.type):
        return column
    if pa.types.is_integer(column.type) or pa.types.is_null(column.type):
        return column.cast(pa.string())
    name = rows.names[what]
    raise BadInputError(f"{rows.path}: column {name} must hold strings or whole numbers, it holds {column.type}")


def _clusters(column: Any, rows: _ChosenRows, what: str) -> Any:
    """An empty name names no cluster, as in CSV; else all images without one would be a cluster."""
    texts = _texts(column, rows, what)
    return pc.if_else(pc.equal(texts, pa.scalar("", texts.type)), pa.scalar(None, texts.type), texts)


def _whole(column: Any, rows: _ChosenRows, what: str) -> Any:
    return column if pa.types.is_integer(column.type) else _cast(column, (pa.int64(),), "whole number", rows, what)


def _times(column: Any, rows: _ChosenRows, what: str) -> Any:
    if pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type):
        return column
    kinds = _MILLISECONDS if _is_text(column.type) else (pa.int64() if _is_number(column.type) else _MILLISECONDS[1],)
    return _cast(column, kinds, "time", rows, what)


def _scores(column: Any, rows: _ChosenRows, what: str) -> Any:
    return _cast(column, (pa.float64(),), "number", rows, what)


def _lists(column: Any, rows: _ChosenRows, what: str) -> Any:
    if not _is_text(column.type):
        return column
    spaced = pc.replace_substring(pc.utf8_trim(column, "[] \t\r\n"), ",", " ")
    lists = pc.ascii_split_whitespace(spaced)
    try:
        numbers = lists.flatten().cast(pa.float32())
    except pa.ArrowInvalid:
        for row, texts in enumerate(lists.to_pylist()):
            for text in texts or []:
                if not _is_float(text):
                    raise rows.error(row, what, f"holds {text[:40]!r}, which is no number") from None
        raise
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets, mask=_null_offsets(lists)), numbers)


def _null_offsets(lists: Any) -> NDArray[np.bool_]:
    """How a list that is null is told to `from_arrays`: its offset is."""
    return np.append(lists.is_null().to_numpy(zero_copy_only=False), False)


def _is_float(text: str) -> bool:
    try:
        pa.scalar(text).cast(pa.float32())
    except pa.ArrowInvalid:
        return False
    return True


def _stacked(columns: Sequence[Any], rows: _ChosenRows, what: str) -> Any:
    """Lists of the numbers that lie in columns of their own."""
    numbers = [_as_float32(column, rows, what) for column in columns]
    matrix = np.stack([each.to_numpy(zero_copy_only=False) for each in numbers], axis=1)
    missing = np.stack([each.is_null().to_numpy(zero_copy_only=False) for each in numbers], axis=1)
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), mask=missing.ravel()), len(columns))


def _as_float32(column: Any, rows: _ChosenRows, what: str) -> Any:
    if column.type != pa.float16():
        return _cast(column, (pa.float32(),), "number", rows, what)
    numbers = column.to_numpy(zero_copy_only=False).astype(np.float32)
    return pa.array(numbers, mask=column.is_null().to_numpy(zero_copy_only=False))


def _cast(column: Any, kinds: Sequence[Any], word: str, rows: _ChosenRows, what: str) -> Any:
    """The values in the first type that takes all of them; else each in the first that takes it, as one number."""
    for kind in kinds:
        try:
            return column.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    values = [_one(value, kinds) for value in column]
    for row, (value, found) in enumerate(zip(column, values, strict=True)):
        if found is None and value.is_valid:
            raise rows.error(row, what, f"is {str(value.as_py())[:40]!r}, which is no {word}")
    return pa.array(values, kinds[0])


def _one(value: Any, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        try:
            found = value.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        return (found.cast(pa.int64()) if pa.types.is_timestamp(kind) else found).as_py()
    return None


_TYPED = {
    "image_id": _texts,
    "cluster": _clusters,
    "matched": _texts,
    "cause": _texts,
    "image_version": _whole,
    "created_at": _times,
    "probability": _scores,
    "search": _lists,
    "score": _lists,
}
