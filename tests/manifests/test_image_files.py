"""Reading images from Parquet: what is taken, what is refused by name, and that memory does not grow."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError, UnavailableError
from manifests.image_files import ImageFile, ImageRow
from neardup.events_pb2 import FLOAT16, FLOAT32

SEARCH, SCORE = 4, 3


def vectors(rows: int, size: int, kind: Any = np.float16) -> list[Any]:
    return list(np.arange(1, rows * size + 1, dtype=kind).reshape(rows, size))


def table(rows: int = 2, **columns: Any) -> pa.Table:
    """A good table, with columns replaced, added, or (None) taken away."""
    good: dict[str, Any] = {
        "image_id": pa.array([f"image-{row}" for row in range(rows)]),
        "search": pa.array(vectors(rows, SEARCH), pa.list_(pa.float16())),
        "score": pa.array(vectors(rows, SCORE), pa.list_(pa.float16())),
    }
    return pa.table({name: values for name, values in {**good, **columns}.items() if values is not None})


def read(folder: Path, content: pa.Table, **options: Any) -> list[ImageRow]:
    path = folder / "images.parquet"
    pq.write_table(content, path, **options)
    return list(ImageFile(path, SEARCH, SCORE))


def test_rows_come_in_order_with_defaults(tmp_path: Path) -> None:
    rows = read(tmp_path, table(3))
    assert [row.image_id for row in rows] == ["image-0", "image-1", "image-2"]
    assert {(row.version, row.created_at_ms) for row in rows} == {(1, 0)}
    assert np.frombuffer(rows[1].search.data, "<f2").tolist() == [5, 6, 7, 8]
    assert rows[1].score.element_type == FLOAT16


@pytest.mark.parametrize("size", [None, SEARCH])
@pytest.mark.parametrize(("kind", "expected"), [(np.float16, FLOAT16), (np.float32, FLOAT32)])
def test_lists_of_either_kind_and_element_type(tmp_path: Path, size: int | None, kind: Any, expected: int) -> None:
    element = pa.from_numpy_dtype(kind)
    column = pa.array(vectors(2, SEARCH, kind), pa.list_(element, size) if size else pa.list_(element))
    rows = read(tmp_path, table(search=column))
    assert rows[1].search.element_type == expected
    assert np.frombuffer(rows[1].search.data, np.dtype(kind).newbyteorder("<")).tolist() == [5, 6, 7, 8]


def test_batches_and_row_groups_do_not_matter(tmp_path: Path) -> None:
    content = table(1000)
    assert read(tmp_path, content) == read(tmp_path, content, row_group_size=7)


def test_versions_are_taken_and_null_is_the_default(tmp_path: Path) -> None:
    rows = read(tmp_path, table(image_version=pa.array([7, None], pa.uint32())))
    assert [row.version for row in rows] == [7, 1]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2024, 5, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        pa.array([datetime(2024, 5, 1), None], pa.timestamp("ns")),  # noqa: DTZ001 - without a zone: UTC
        pa.array([1_714_521_600_000, None], pa.int64()),
    ],
)
def test_created_at_is_read_as_milliseconds(tmp_path: Path, column: pa.Array) -> None:
    assert [row.created_at_ms for row in read(tmp_path, table(created_at=column))] == [1_714_521_600_000, 0]


def test_other_columns_are_not_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, table(label=pa.array(["a", "b"])))) == 2


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no id column": ({"image_id": None}, "no column image_id"),
    "no search column": ({"search": None}, "no column search"),
    "no score column": ({"score": None}, "no column score"),
    "id of another type": ({"image_id": pa.array([1, 2])}, "image_id must hold strings"),
    "id null": ({"image_id": pa.array(["a", None])}, "row 1: column image_id is null"),
    "vector not a list": ({"search": pa.array([1.0, 2.0])}, "search must hold lists"),
    "vector of doubles": (
        {"score": pa.array(vectors(2, SCORE, np.float64), pa.list_(pa.float64()))},
        "score must hold lists of float16 or float32, it holds list<.*double",
    ),
    "fixed size that differs": (
        {"search": pa.array(vectors(2, 5), pa.list_(pa.float16(), 5))},
        "search holds vectors of 5 numbers, the signal's have 4",
    ),
    "one length that differs": (
        {"search": pa.array([[1.0] * 4, [1.0] * 3], pa.list_(pa.float32()))},
        "row 1: column search has 3 numbers, the signal's embedding has 4",
    ),
    "vector null": ({"score": pa.array([[1.0] * 3, None], pa.list_(pa.float32()))}, "row 1: column score is null"),
    "null inside a vector": (
        {"score": pa.array([[1.0] * 3, [1.0, None, 1.0]], pa.list_(pa.float32()))},
        "row 1: column score has a null",
    ),
    "version of another type": ({"image_version": pa.array(["a", "b"])}, "image_version must hold whole numbers"),
    "version negative": ({"image_version": pa.array([1, -1])}, "row 1: column image_version is -1"),
    "time of another type": ({"created_at": pa.array(["now", "then"])}, "created_at must hold timestamps"),
    "time before the epoch": ({"created_at": pa.array([-5, 1])}, "row 0: column created_at is -5"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    columns, message = BAD[name]
    with pytest.raises(BadInputError, match=message):
        read(tmp_path, table(**columns))


def claimed(path: Path, content: pa.Table, claim: pa.Schema) -> Path:
    """Writes a table, and claims that its columns have the types of another schema.

    Other writers write null rows of fixed-size lists so. Arrow's own writer refuses them.
    """

    def stored(schema: pa.Schema, length: int) -> tuple[pa.Schema, bytes]:
        """The schema with a text of so many characters, and how a file keeps it."""
        padded = schema.with_metadata({"padding": "x" * length})
        pq.write_table(padded.empty_table(), path)
        return padded, pq.read_metadata(path).metadata[b"ARROW:schema"]

    _, wanted = stored(claim, 200)
    padded, found = next(each for n in range(400) if len((each := stored(content.schema, n))[1]) == len(wanted))
    pq.write_table(content.cast(padded), path, row_group_size=1_000)
    data = path.read_bytes()
    assert data.count(found) == 1
    path.write_bytes(data.replace(found, wanted))
    return path


@pytest.mark.parametrize(("column", "size"), [("search", SEARCH), ("score", SCORE)])
@pytest.mark.parametrize("null", [0, 1, 700, 1_300, 2_999])
def test_a_null_row_of_fixed_size_lists_is_named(tmp_path: Path, column: str, size: int, null: int) -> None:
    lists = pa.array([[1.0] * size if row != null else None for row in range(3_000)], pa.list_(pa.float32()))
    content = table(3_000, **{column: lists})
    at = content.schema.get_field_index(column)
    claim = content.schema.set(at, pa.field(column, pa.list_(pa.float32(), size)))
    file = ImageFile(claimed(tmp_path / "null.parquet", content, claim), SEARCH, SCORE)
    rows = iter(file)
    before = null - null % 256  # Arrow refuses the whole batch
    assert [row.image_id for row in islice(rows, before)] == [f"image-{row}" for row in range(before)]
    with pytest.raises(BadInputError, match=f"row {null}: column {column} is null or damaged"):
        next(rows)


def test_every_row_before_a_bad_one_is_given(tmp_path: Path) -> None:
    """The first bad row is told, also where a later row of its batch is bad in an earlier column."""
    ids = pa.array([f"image-{row}" if row != 702 else None for row in range(710)])
    lists = [[1.0] * SEARCH if row != 700 else [1.0] for row in range(710)]
    content = table(710, image_id=ids, search=pa.array(lists, pa.list_(pa.float32())))
    pq.write_table(content, tmp_path / "late.parquet")
    rows = ImageFile(tmp_path / "late.parquet", SEARCH, SCORE).rows_from(30)
    assert [row.image_id for row in islice(rows, 670)] == [f"image-{row}" for row in range(30, 700)]
    with pytest.raises(BadInputError, match="row 700"):
        next(rows)


def test_no_file_and_no_parquet(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.parquet"):
        ImageFile(tmp_path / "nowhere.parquet", SEARCH, SCORE)
    (tmp_path / "text.parquet").write_text("hello, I am text and long enough to be looked at")
    with pytest.raises(BadInputError, match="not a Parquet file"):
        ImageFile(tmp_path / "text.parquet", SEARCH, SCORE)


def test_a_damaged_file_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "images.parquet"
    pq.write_table(table(1000), path, compression="zstd")
    data = bytearray(path.read_bytes())
    data[100:2000] = bytes(1900)
    path.write_bytes(data)
    with pytest.raises(BadInputError):
        list(ImageFile(path, SEARCH, SCORE))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"cannot read .*none\.parquet: .*No such file"):
        ImageFile(tmp_path / "none.parquet", SEARCH, SCORE)
    with pytest.raises(BadInputError, match="is a directory"):
        ImageFile(tmp_path, SEARCH, SCORE)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_disk_that_does_not_answer_is_no_fault_of_the_file(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "images.parquet"
    pq.write_table(table(3), path)

    def refuses(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    images = ImageFile(path, SEARCH, SCORE)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", refuses)
    with pytest.raises(UnavailableError, match=rf"cannot read .*images\.parquet: {os.strerror(number)}"):
        list(images)
    monkeypatch.setattr(pq, "ParquetFile", refuses)
    with pytest.raises(UnavailableError, match=rf"cannot read .*images\.parquet: {os.strerror(number)}"):
        ImageFile(path, SEARCH, SCORE)


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, table(2).slice(0, 0)) == []


def peak_bytes(folder: Path, rows: int) -> int:
    """The most memory that Arrow holds while a file with one row group of 2 kB rows is read."""
    matrix = np.random.default_rng(1).random((rows, 1000), dtype=np.float32).astype(np.float16)
    content = pa.table(
        {
            "image_id": pa.array([str(row) for row in range(rows)]),
            "search": pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), 1000),
            "score": pa.array([[1.0] * SCORE] * rows, pa.list_(pa.float32())),
        }
    )
    path = folder / f"{rows}.parquet"
    pq.write_table(content, path, row_group_size=rows, compression="none")
    del content, matrix
    before, highest = pa.total_allocated_bytes(), 0
    for _ in ImageFile(path, 1000, SCORE):
        highest = max(highest, pa.total_allocated_bytes() - before)
    return highest


def test_memory_does_not_grow_with_the_row_group(tmp_path: Path) -> None:
    small, large = peak_bytes(tmp_path, 4_000), peak_bytes(tmp_path, 16_000)
    assert large < 1.5 * small


def test_ids_may_be_a_dictionary_of_strings(tmp_path: Path) -> None:
    rows = read(tmp_path, table(3, image_id=pa.array(["a", "b", "c"]).dictionary_encode()))
    assert [row.image_id for row in rows] == ["a", "b", "c"]


@pytest.mark.parametrize("large", [False, True])
def test_an_id_that_is_not_utf8_is_named_with_its_row(tmp_path: Path, large: bool) -> None:
    kind = pa.LargeStringArray if large else pa.StringArray
    offsets = np.array([0, 1, 3], np.int64 if large else np.int32)
    ids = kind.from_buffers(2, pa.py_buffer(offsets.tobytes()), pa.py_buffer(b"a\xff\xfe"))
    with pytest.raises(BadInputError, match=r"row 1: column image_id holds b'\\xff\\xfe', which is not UTF-8"):
        read(tmp_path, table(image_id=ids))


@pytest.mark.parametrize("name", ["image_id", "search", "score", "image_version"])
def test_a_column_that_is_there_twice_is_named(tmp_path: Path, name: str) -> None:
    once = table(image_version=pa.array([1, 2]))
    with pytest.raises(BadInputError, match=f"has 2 columns of the name {name}"):
        read(tmp_path, once.append_column(name, once.column(name)))


def test_a_time_before_1970_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"row 1: column created_at is -5, .* so leave it null"):
        read(tmp_path, table(created_at=pa.array([7, -5], pa.timestamp("ms"))))


@pytest.mark.parametrize("version", [2**53, 2**64 - 1])
def test_a_version_that_the_entrance_refuses_is_named(tmp_path: Path, version: int) -> None:
    with pytest.raises(BadInputError, match=f"row 1: column image_version is {version}, not 0 to 9007199254740991"):
        read(tmp_path, table(image_version=pa.array([1, version], pa.uint64())))
