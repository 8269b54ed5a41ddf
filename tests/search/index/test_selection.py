"""Picking and sorting in compiled code, beside numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.selection import fill_places, keep_lowest, keep_smallest, sort_numbers


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("size", [0, 1, 2, 63, 700, 9_000])
@pytest.mark.parametrize("bound", [1, 300, 1_000_003, 2**31 - 1])
def test_numbers_are_sorted_however_they_are_spread(size: int, bound: int, crowded: bool) -> None:
    random = np.random.default_rng(size)
    low = max(0, bound - 5) if crowded else 0
    numbers = random.integers(low, bound, size).astype(np.int32)
    expected = np.sort(numbers)
    sort_numbers(numbers, size, bound, np.empty(size + 1, np.int32))
    assert numbers.tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 10**9), max_size=80), st.integers(1, 90), st.randoms(use_true_random=False))
def test_the_smallest_are_kept(numbers: set[int], wanted: int, random: object) -> None:
    mixed = list(numbers)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    keys = np.array([-1, *mixed, -2], np.int64)
    end = keep_smallest(keys, 1, len(mixed) + 1, wanted)
    assert sorted(keys[1:end].tolist()) == sorted(numbers)[:wanted]
    assert (keys[0], keys[-1]) == (-1, -2)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 10**6), max_size=80), st.integers(0, 90), st.integers(1, 9))
def test_the_lowest_are_moved_to_the_front(numbers: set[int], wanted: int, buckets: int) -> None:
    mixed = np.array(list(numbers), np.int64)
    keep_lowest(mixed, len(mixed), wanted, 10**6 + 1, np.empty(buckets, np.int64))
    assert sorted(mixed[:wanted].tolist()) == sorted(numbers)[:wanted]


def test_places_are_those_of_each_part() -> None:
    parts = {2: np.array([10, 11, 12]), 5: np.array([90, 95])}
    references = np.array([[2 << 32 | 1, 5 << 32 | 0, 77], [5 << 32 | 1, 88, 99]])
    places = np.zeros((2, 2), np.int64)
    for number, column in parts.items():
        fill_places(references, np.array([2, 1]), number, column, places)
    assert places.tolist() == [[11, 90], [95, 0]]
