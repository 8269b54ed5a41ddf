"""Choosing: heads and their followers by age within each overlap, beside a sort of everything that is visible."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.choosing import Best, by_level, oldest_singles, take_level
from search.index.counting import TABLE, tally
from search.index.ranks import bitmap_of, word_counts_of
from search.index.sharing import Sharing, Sight, followers_of

N = 60


def sharing_of(leader: list[int], hidden: list[int]) -> Sharing:
    """Entries that follow the one before them that `leader` names; hidden from some places on."""
    lead = np.array([min(own, entry) for entry, own in enumerate(leader)])
    lead = np.array([entry if lead[own] != own else own for entry, own in enumerate(lead.tolist())])
    followers = np.flatnonzero(lead != np.arange(N))
    heads, sizes = np.unique(lead[followers], return_counts=True)
    shares = np.isin(np.arange(N), heads)
    order = np.argsort(lead[followers], kind="stable")
    return Sharing(
        marks=bitmap_of(shares | (np.array(hidden) > 0)),
        shares=bitmap_of(shares),
        counts=word_counts_of(bitmap_of(shares)),
        starts=np.concatenate(([0], np.cumsum(sizes))).astype(np.uint32),
        followers=followers[order].astype(np.uint32),
        hidden=np.array(hidden, np.int64),
    )


def stands_for(sharing: Sharing, head: int) -> list[int]:
    first, last = followers_of(sharing, head)
    return [head, *sharing.followers[first:last].tolist()]


@settings(max_examples=150, deadline=None)
@given(
    leader=st.lists(st.integers(0, N - 1), min_size=N, max_size=N),
    hidden=st.lists(st.sampled_from([0, 0, 0, 10, 40]), min_size=N, max_size=N),
    heads=st.sets(st.integers(0, N - 1)),
    bound=st.integers(1, N),
    excluded=st.integers(-1, N - 1),
    need=st.integers(0, 2 * N),
    before=st.integers(0, 3),
)
def test_a_level_is_what_sorting_everything_gives(
    leader: list[int], hidden: list[int], heads: set[int], bound: int, excluded: int, need: int, before: int
) -> None:
    sharing, as_of = sharing_of(leader, hidden), 20
    followers = set(sharing.followers.tolist())
    chosen = sorted(heads - followers)
    visible = sorted(
        entry
        for head in chosen
        for entry in stands_for(sharing, head)
        if entry < bound and entry != excluded and (hidden[entry] == 0 or as_of < hidden[entry])
    )
    need += before
    best = Best(np.full(3 * N, -1, np.int64), np.zeros(3 * N, np.uint16), need)
    numbers = np.array(chosen, np.int32)
    last = take_level(
        numbers, 7, sharing, Sight(bound, as_of, excluded), best, before, np.empty(2 * need + 64, np.int64)
    )
    assert best.entries[before:last].tolist() == visible[: need - before]
    assert best.overlaps[before:last].tolist() == [7] * (last - before)
    assert best.entries[:before].tolist() == [-1] * before


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=50))
def test_levels_are_in_order_of_overlap_then_age(overlaps: list[int]) -> None:
    counts = np.array([5 + overlap for overlap in overlaps] + [0], np.uint16)
    met = np.arange(len(overlaps) + 1, dtype=np.int32)
    ends, order = np.zeros(10, np.int64), np.empty(len(met), np.int32)
    by_level(met, len(overlaps), counts, 5, ends, order)
    for level in range(1, 10):
        expected = [entry for entry, overlap in enumerate(overlaps) if overlap == level]
        assert order[ends[level - 1] : ends[level]].tolist() == expected


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sets(st.integers(0, 40)), max_size=6), st.integers(0, 50))
def test_singles_below_a_limit_come_from_the_beginnings_of_lists(lists: list[set[int]], limit: int) -> None:
    buffer = np.array([number for each in lists for number in sorted(each)] + [0], np.int32)
    edges = np.cumsum([0, *map(len, lists)])
    table = np.zeros(TABLE, np.uint8)
    tally(buffer, int(edges[-1]), table)
    sifted = np.array([3, 17, 45], np.int32)  # as if found out to be alone in spite of the table
    picked = np.empty(400, np.int32)
    found = picked[: oldest_singles(buffer, edges, table, sifted, limit, picked)].tolist()
    numbers, times = np.unique(buffer[:-1], return_counts=True)
    alone = [number for number in numbers[times == 1].tolist() if number < limit]
    assert sorted(found) == sorted(alone + [number for number in sifted.tolist() if number < limit])
