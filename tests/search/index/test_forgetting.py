"""Nothing of a forgotten image is left in any file of an index: neither id, nor terms, nor code."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.pseudonyms import Pseudonyms
from core.types import ImageId, LogPosition
from search.index import segment_store
from search.index.builder import IndexBuilder
from search.index.columns import Kind
from search.index.engine import SegmentedIndex
from search.index.interface import Insert, Record, TermQuery
from tests.search.index.index_oracle import LOG, delete, index_settings, plain, replay

SECRET = "the-image-nobody-may-know"
CODE = b"a-code-to-forget"
TERMS = [0x7E57C0DE, 0x5EC2E700, 0x0BADF00D, 0x600DF00D]
SETTINGS = index_settings(bits_per_group=32, code_bytes=len(CODE), seal_entries=20, merge_fan=3)
TRACES = (SECRET.encode(), CODE, *(term.to_bytes(4, "little") for term in TERMS))


def image(offset: int, name: str, version: int = 1) -> Insert:
    """An image; the forgotten one has a code and terms that no other has."""
    secret = name == SECRET
    terms = np.array(TERMS if secret else [offset, 1, 2, 3], np.uint32)
    return Insert(offset, offset, ImageId(name), version, terms, CODE if secret else offset.to_bytes(len(CODE), "big"))


def files_with(folder: Path, *traces: bytes) -> dict[str, list[bytes]]:
    """The files below a folder that hold any of these bytes."""
    content = {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    hits = {name: [each for each in traces if each in data] for name, data in content.items()}
    return {name: each for name, each in hits.items() if each}


def order(others: int = 70) -> list[Record]:
    """The image comes, comes with other versions, and is forgotten, among others."""
    records: list[Record] = [image(offset, f"other-{offset}") for offset in range(others)]
    records[3], records[30], records[31] = image(3, SECRET), image(30, SECRET, 2), image(31, SECRET, 2)
    records[others - 10] = delete(others - 10, SECRET, forget=True)
    return records


def filled(folder: Path, background: bool = False) -> SegmentedIndex:
    """An index that has applied the order."""
    index = SegmentedIndex(folder, SETTINGS, background)
    records = order()
    for start in range(0, len(records), 7):
        index.insert_and_search(LOG, records[start : start + 7])
    return index


def test_no_file_holds_it_once_it_is_released(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.tidy()
    assert files_with(tmp_path, *TRACES)
    assert index.stats().forgetting == 1
    before = [plain(each) for each in index.insert_and_search(LOG, order())][61:]
    index.release(59)
    index.tidy()
    assert index.stats().forgetting == 1, "the delete itself may be asked for again"
    index.release(60)
    index.tidy()
    assert files_with(tmp_path, *TRACES) == {}
    assert index.stats().forgetting == 0
    assert [plain(each) for each in index.insert_and_search(LOG, order())][61:] == before
    index.close()
    assert files_with(tmp_path, *TRACES) == {}


def test_its_versions_stay_deleted_and_a_higher_one_is_a_new_life(tmp_path: Path) -> None:
    index = filled(tmp_path)
    for _ in range(2):
        (stored,) = index.get([ImageId(SECRET)])
        assert stored is not None
        assert (stored.version, stored.place, stored.hidden, stored.deleted) == (2, 60, True, True)
        index.release(69)
        index.tidy()
        index.close()
        index = SegmentedIndex(tmp_path, SETTINGS, background=False)
    assert stored.erased
    again = [image(70, SECRET, 1), image(71, SECRET, 2), replay(72, SECRET), delete(73, SECRET), image(74, SECRET, 3)]
    older, same, bare, deleted, higher = index.insert_and_search(LOG, again)
    assert older.superseded
    assert (same.deleted, bare.deleted, deleted.deleted) == (True, True, False)
    assert higher.place == 74
    found = index.search([TermQuery(np.array(TERMS, np.uint32), 5)])[0]
    assert found.image_ids == (SECRET,)
    (stored,) = index.get([ImageId(SECRET)])
    assert stored is not None
    assert (stored.version, stored.deleted, stored.erased) == (3, False, False)
    index.insert_and_search(LOG, [delete(75, SECRET, forget=True)])
    index.release(75)
    index.tidy()
    assert files_with(tmp_path, *TRACES) == {}
    index.close()


def test_a_refused_image_is_never_written_again(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.insert_and_search(LOG, [delete(70, SECRET, 2**53 - 1, forget=True)])
    index.release(70)
    index.tidy()
    answers = index.insert_and_search(LOG, [image(71, SECRET, 9), image(72, SECRET, 2**53 - 1)])
    assert [(each.superseded, each.deleted, each.result.image_ids) for each in answers] == [
        (True, False, ()),
        (False, True, ()),
    ]
    assert files_with(tmp_path, *TRACES) == {}
    index.close()


def test_a_crash_between_two_segments_forgets_nothing(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.release(69)
    index._set_forgotten_aside()
    steps = 0
    while index._housekeeping.step():
        steps += 1
        index.close()
        index = SegmentedIndex(tmp_path, SETTINGS, background=False)
        index.release(69)
    assert steps > 3
    assert files_with(tmp_path, *TRACES) == {}
    index.close()


def test_an_image_that_was_deleted_before_is_forgotten_too(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path, SETTINGS, background=False)
    index.insert_and_search(LOG, [image(0, SECRET), delete(1, SECRET), delete(2, SECRET, forget=True)])
    index.release(2)
    index.tidy()
    assert files_with(tmp_path, *TRACES) == {}
    (stored,) = index.get([ImageId(SECRET)])
    assert stored is not None
    assert (stored.version, stored.erased) == (1, True)
    index.close()


def test_an_unknown_image_is_refused_too(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path, SETTINGS, background=False)
    index.insert_and_search(LOG, [delete(0, SECRET, forget=True), delete(1, SECRET, 7, forget=True)])
    index.release(1)
    index.tidy()
    assert files_with(tmp_path, *TRACES) == {}
    (answer,) = index.insert_and_search(LOG, [image(2, SECRET, 7)])
    assert answer.deleted
    index.close()


def test_threads_and_a_process_of_their_own_erase_it(tmp_path: Path) -> None:
    settings = replace(SETTINGS, background_process=True)
    index = SegmentedIndex(tmp_path, settings)
    index.insert_and_search(LOG, order())
    index.release(69)
    while index.stats().forgetting:
        index.release(69)
    assert files_with(tmp_path, *TRACES) == {}
    index.close()


@pytest.fixture
def large_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every segment counts as large."""
    monkeypatch.setattr(segment_store, "_SMALL_ENTRIES", 0)


@pytest.mark.usefixtures("large_segments")
def test_a_large_segment_rests_between_two_rewrites(tmp_path: Path) -> None:
    index = filled(tmp_path)
    index.release(69)
    index.tidy()
    assert index.stats().forgetting == 1
    for each in tmp_path.glob("segment-*"):
        written = each.stat().st_mtime - segment_store._REST_S - 1
        os.utime(each, (written, written))
    index.tidy()
    assert files_with(tmp_path, *TRACES) == {}
    index.close()


def test_a_snapshot_knows_what_was_forgotten(tmp_path: Path) -> None:
    index = filled(tmp_path / "index")
    index.release(69)
    index.tidy()
    index.snapshot(tmp_path / "copy")
    index.close()
    with_copy = SegmentedIndex(tmp_path / "copy", SETTINGS, background=False)
    (answer,) = with_copy.insert_and_search(LOG, [image(70, SECRET, 2)])
    assert answer.deleted
    with_copy.close()


def test_an_index_that_is_built_knows_pseudonyms(tmp_path: Path) -> None:
    names = Pseudonyms.fresh()
    with IndexBuilder(tmp_path / "index", SETTINGS) as builder:
        builder.add(
            np.array([4]),
            [names.of(ImageId(SECRET))],
            np.array([2], np.uint64),
            np.empty((0, 4), np.uint32),
            np.empty((0, len(CODE)), np.uint8),
            np.array([Kind.REMOVED], np.uint8),
        )
        builder.finish(LogPosition(LOG, 9, 0), 9, names)
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    (older, higher) = index.insert_and_search(LOG, [image(10, SECRET, 2), image(11, SECRET, 3)])
    assert (older.deleted, higher.place) == (True, 11)
    index.close()
