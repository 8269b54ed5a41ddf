"""The file of read marks: whole or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.checked_json import write_checked
from core.errors import BadInputError
from stream.late_halves import HISTORY_SETS
from stream.mark_file import KEPT_SETS, MarkBook, read_book, write_book
from stream.read_marks import MarkedRecord, MarkSet, ReadMark, TopicMarks
from tests.support.damage import damages

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


def test_any_changed_bit_is_refused_or_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "read-marks"
    write_book(file, BOOK)
    raw = file.read_bytes()
    refused = 0
    for changed in damages(raw):
        file.write_bytes(changed)
        try:
            assert read_book(file) == BOOK
        except BadInputError:
            refused += 1
    assert refused > len(raw)


def test_another_version_is_named(tmp_path: Path) -> None:
    file = tmp_path / "read-marks"
    write_checked(file, 9, {})
    with pytest.raises(BadInputError, match="format 9, this release reads format 1"):
        read_book(file)


def test_the_newest_sets_are_all_kept_and_older_ones_become_sparse() -> None:
    book = MarkBook()
    for number in range(50):
        book = book.with_set(MarkSet("job", number, 2, 0))
    kept = [each.checkpoint for each in book.sets]
    assert kept[-KEPT_SETS:] == list(range(50 - KEPT_SETS, 50))
    assert kept == sorted(kept)
    assert len(kept) <= KEPT_SETS + HISTORY_SETS
    covering = book.fitting(Path("job/chk-40"))
    assert covering is not None
    assert covering.checkpoint == 40
    older = book.fitting(Path("job/chk-3"))
    assert older is not None
    assert older.checkpoint <= 3
    assert book.fitting(Path("other/chk-40")) is None
