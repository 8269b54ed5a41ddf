"""Pages of what an index holds. That they are right is shown beside the oracle, in `test_engine_stateful`."""

from __future__ import annotations

import pytest

from core.types import ImageId
from search.index.engine import SegmentedIndex
from search.index.interface import Listing, Stored
from tests.search.index.index_oracle import LOG, delete, index_settings, insert

IMAGES = 2_000


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> SegmentedIndex:
    """Many images in segments and a tail; each tenth came again, each hundredth was deleted."""
    index = SegmentedIndex(tmp_path_factory.mktemp("index"), index_settings(seal_entries=300), background=False)
    records = [insert(place, f"i{place}") for place in range(IMAGES)]
    for number in range(0, IMAGES, 10):
        records.append(insert(len(records), f"i{number}", 2))
    records += [delete(len(records) + at, f"i{number}") for at, number in enumerate(range(5, IMAGES, 100))]
    for start in range(0, len(records), 100):
        index.insert_and_search(LOG, records[start : start + 100])
        index.tidy()
    return index


def everything(index: SegmentedIndex, limit: int, share: int | None = None) -> list[Stored]:
    found: list[Stored] = []
    page = Listing((), -1, complete=False)
    while not page.complete:
        page = index.list_page(page.through, limit, share)
        found += page.entries
    return found


def test_all_are_listed_once_whatever_the_pages(index: SegmentedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = everything(index, 10_000)
    assert len(whole) == IMAGES  # a delete lies in the place of its image
    assert sum(each.deleted for each in whole) == IMAGES // 100
    assert [each.place for each in whole] == sorted(each.place for each in whole)
    monkeypatch.setattr("search.index.listing.LOOKED_AT", 77)
    for limit in (1, 7, 300):
        assert everything(index, limit) == whole


def test_a_page_looks_at_so_many_entries_and_no_more(index: SegmentedIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.index.listing.LOOKED_AT", 50)
    page = index.list_page(99, 1_000)
    assert (page.through, page.complete) == (149, False)
    assert [each.place for each in page.entries] == [at for at in range(100, 150) if at % 10 and at % 100 != 5]


def test_a_share_is_about_as_large_everywhere_and_always_the_same(index: SegmentedIndex) -> None:
    whole = everything(index, 500)
    tenth = everything(index, 13, 2**32 // 10)
    assert tenth == everything(index, 500, 2**32 // 10)
    assert set(tenth) < set(whole)
    for start in range(0, IMAGES, 500):
        assert 40 <= sum(start <= each.place < start + 500 for each in tenth) <= 60


def test_places_without_anything_give_nothing(index: SegmentedIndex) -> None:
    found = index.list_at([11, 10, 10**9, -1])
    assert found[0] == Stored(ImageId("i11"), 1, 11, b"", hidden=False)
    assert found[1:] == [None, None, None]
    assert index.list_at([]) == []
