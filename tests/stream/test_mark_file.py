"""The file of read marks: whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError
from stream.mark_file import KEPT_SETS, MarkBook, decode_book, encode_book, read_book, write_book
from stream.read_marks import MarkedRecord, MarkSet, ReadMark, TopicMarks

BOOK = MarkBook(
    (
        MarkSet(
            "job",
            7,
            2,
            1_700_000_000_000,
            {"topic": TopicMarks("id", {0: ReadMark(5, MarkedRecord(4, 99, 3), 2, 1), 12: ReadMark(0)})},
            restored_ms=8,
            savepoint="savepoint-x",
        ),
    ),
    {"topic": 3},
    1,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "read-marks"
    assert read_book(file) == MarkBook()
    write_book(file, BOOK)
    assert read_book(file) == BOOK


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    raw = bytearray(encode_book(BOOK))
    at = data.draw(st.integers(0, len(raw) - 2))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(BadInputError):
        decode_book(bytes(raw))


@given(st.integers(0, len(encode_book(BOOK)) - 2))
def test_any_beginning_is_refused(length: int) -> None:
    with pytest.raises(BadInputError):
        decode_book(encode_book(BOOK)[:length])


def test_another_version_is_named() -> None:
    with pytest.raises(BadInputError, match="version 9, this release reads version 1"):
        decode_book(encode_book(BOOK).replace(b"marks 1", b"marks 9", 1))


def test_old_sets_are_dropped() -> None:
    book = MarkBook()
    for number in range(50):
        book = book.with_set(MarkSet("job", number, 2, 0))
    assert [each.checkpoint for each in book.sets] == list(range(50 - KEPT_SETS, 50))
    covering = book.fitting(Path("job/chk-40"))
    assert covering is not None
    assert covering.checkpoint == 40
    assert book.fitting(Path("job/chk-3")) is None
    assert book.fitting(Path("other/chk-40")) is None
