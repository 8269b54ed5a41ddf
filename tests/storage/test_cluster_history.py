"""Who joined and who left a cluster: whatever the pages are, they tell what the whole history says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.types import ImageId
from storage.cluster_history import cluster_changes
from storage.interfaces import ClusterStore
from storage.memory import MemoryStore
from storage.records import HistoryEntry
from storage.testing.decisions import A, B, C, deletes, fill, founds, joins, put
from storage.testing.model import Action, StoreModel, actions


def paged(store: ClusterStore, head: ImageId, limit: int, most: int, after: int = 0) -> list[HistoryEntry]:
    """All pages, oldest first. None looks at more than it may, and none looks at what another one has looked at."""
    with store.snapshot() as view:
        before, found = view.state().history_number + 1, list[HistoryEntry]()
        while True:
            page = cluster_changes(view, head, before, limit, most, after)
            assert len(page.entries) <= limit
            assert 0 <= before - page.looked_from <= most
            assert all(page.looked_from <= each.number < before for each in page.entries)
            found += page.entries
            if page.complete:
                return found[::-1]
            assert page.looked_from < before
            before = page.looked_from


@settings(deadline=None, max_examples=60)
@given(st.lists(actions, max_size=40), st.integers(1, 5), st.integers(1, 9), st.integers(0, 30))
def test_pages_of_any_size_tell_all(steps: list[Action], limit: int, most: int, after: int) -> None:
    store = MemoryStore()
    fill(store, StoreModel(), steps, 8)
    entries = store.history(after, 10_000)
    for head in {each for entry in store.history(0, 10_000) for each in (entry.old_head, entry.new_head) if each}:
        moved = [each for each in entries if each.old_head != each.new_head]
        expected = [each for each in moved if head in (each.old_head, each.new_head)]
        assert paged(store, head, limit, most, after) == expected


@pytest.mark.parametrize("block", [1, 2, 1_000])
def test_who_left_and_who_was_deleted_is_told_newest_first(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("storage.cluster_history._BLOCK", block)
    store = MemoryStore()
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), founds(3, B, old=A, version=2), deletes(4, C, A))
    with store.snapshot() as view:
        page = cluster_changes(view, A, 6, 10, 100)
    assert [(each.number, each.image_id, each.new_head) for each in page.entries] == [
        (5, C, ""),
        (4, B, B),
        (3, C, A),
        (2, B, A),
        (1, A, A),
    ]
    assert (page.looked_from, page.complete) == (1, True)


def test_a_page_that_finds_nothing_says_how_far_it_looked() -> None:
    store = MemoryStore()
    put(store, founds(0, A), *[founds(n, ImageId(f"i{n}")) for n in range(1, 9)])
    with store.snapshot() as view:
        page = cluster_changes(view, A, 10, 5, 4)
        assert (page.entries, page.looked_from, page.complete) == ((), 6, False)
        page = cluster_changes(view, A, 6, 5, 100, after=3)
        assert (page.entries, page.looked_from, page.complete) == ((), 4, True)
