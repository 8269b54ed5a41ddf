"""Ranks of bits, equal rows, selections and merges of ranks, each beside the slow way."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.packing import first_equal_rows
from search.index.ranks import bitmap_of, counts_of, rank_of
from search.index.selection import keep_smallest, merge_ranks, sort_keys, sort_numbers


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3000), share=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_the_rank_is_the_number_of_bits_before(n: int, share: float, seed: int) -> None:
    flags = np.random.RandomState(seed).random_sample(n) < share
    bitmap = bitmap_of(flags)
    expected = np.where(flags, np.cumsum(flags) - 1, -1)
    assert np.array_equal(rank_of(bitmap, counts_of(bitmap), np.arange(n)), expected)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.binary(min_size=3, max_size=3), max_size=80), few=st.lists(st.integers(0, 7), max_size=80))
def test_the_first_equal_row_is_found(rows: list[bytes], few: list[int]) -> None:
    everyone = [*rows, *(bytes([one, 0, 0]) for one in few), *rows]
    array = np.array([list(row) for row in everyone], np.uint8).reshape(-1, 3)
    assert first_equal_rows(array).tolist() == [everyone.index(row) for row in everyone]


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**22) | st.integers(0, 50), max_size=400, unique=True),
    wanted=st.integers(1, 30),
    crowd=st.integers(0, 2**22 - 600),
)
def test_sorting_and_selecting(numbers: list[int], wanted: int, crowd: int) -> None:
    for mine in (numbers, [*numbers, *range(crowd, crowd + 500)]):
        array = np.array(mine, np.int32)
        sort_numbers(array, len(array), 2**22 + 1, np.empty(len(array), np.int32))
        assert array.tolist() == sorted(mine)
    keys = np.array(numbers, np.int64)
    end = keep_smallest(keys, 0, len(keys), wanted)
    assert sorted(keys[:end].tolist()) == sorted(numbers)[:wanted]
    sort_keys(keys, 0, end)
    assert keys[:end].tolist() == sorted(numbers)[:wanted]


@settings(max_examples=40, deadline=None)
@given(
    old=st.lists(st.integers(1, 6), max_size=9), new=st.lists(st.integers(1, 6), max_size=9), wanted=st.integers(1, 9)
)
def test_ranks_of_older_and_younger_entries_are_merged(old: list[int], new: list[int], wanted: int) -> None:
    old, new = sorted(old, reverse=True)[:wanted], sorted(new, reverse=True)[:wanted]
    places, overlaps = np.zeros((1, 9), np.int64), np.zeros((1, 9), np.uint16)
    more_places, more_overlaps = np.zeros((1, 9), np.int64), np.zeros((1, 9), np.uint16)
    places[0, : len(old)], overlaps[0, : len(old)] = range(len(old)), old
    more_places[0, : len(new)], more_overlaps[0, : len(new)] = range(100, 100 + len(new)), new
    sizes = np.array([len(old)])
    merge_ranks(
        places, overlaps, sizes, more_places, more_overlaps, np.array([len(new)]), np.array([wanted]),
        np.empty(9, np.int64), np.empty(9, np.uint16),
    )  # fmt: skip
    both = [(-one, place) for place, one in enumerate(old)] + [(-one, 100 + place) for place, one in enumerate(new)]
    expected = sorted(both)[:wanted]
    assert [(-int(o), int(p)) for o, p in zip(overlaps[0, : sizes[0]], places[0, : sizes[0]], strict=True)] == expected
