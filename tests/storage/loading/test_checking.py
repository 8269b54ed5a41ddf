"""Counts that differ are told by name, with both values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage.errors import CorruptedError
from storage.loading.checking import COUNTED, check_counts
from storage.loading.interfaces import LoadCursor, LoadStage
from storage.records import FirstLoad

LOAD = FirstLoad("4f0c", "s3://old", "a.json", rows=12, images=10, clusters=3, started_ms=1, ended_ms=2)
CURSOR = LoadCursor(LoadStage.DONE, rows=12, numbers=10, clusters=3, members=10)
FOUND = {"images": 10, "clusters": 3, "history": 10}


def test_what_is_whole_passes() -> None:
    assert set(FOUND) == set(COUNTED)
    check_counts(FOUND, LOAD, CURSOR)


@pytest.mark.parametrize("family", COUNTED)
def test_a_record_too_many_is_told(family: str) -> None:
    wrong = {**FOUND, family: FOUND[family] + 1}
    with pytest.raises(
        CorruptedError, match=f"{FOUND[family]} records of {family} should be there, and {wrong[family]}"
    ):
        check_counts(wrong, LOAD, CURSOR)


@pytest.mark.parametrize(
    ("cursor", "said"),
    [(replace(CURSOR, rows=11), "12 records of rows"), (replace(CURSOR, members=9), "10 records of edges")],
)
def test_what_was_not_written_is_told(cursor: LoadCursor, said: str) -> None:
    with pytest.raises(CorruptedError, match=said):
        check_counts(FOUND, LOAD, cursor)
