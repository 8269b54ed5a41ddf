"""Counting: the small table never says too little, and what is sifted out by it is counted as numpy counts it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.counting import TABLE, count_each, fresh_base, of_overlap, sift, tally

ENTRIES = 3 * TABLE


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 30) | st.integers(0, ENTRIES - 1), max_size=300), st.integers(1, 300), st.integers(0, 9))
def test_what_is_sifted_out_is_counted_exactly(met: list[int], least: int, base: int) -> None:
    # Numbers that differ by the size of the table share a slot.
    numbers = np.array([*met, *(number % TABLE for number in met[::3])], np.int32)
    table = np.zeros(TABLE, np.uint8)
    tally(numbers, len(numbers), table)
    kept = np.empty(len(numbers) + 1, np.int32)
    size = sift(numbers, len(numbers), table, least, kept)
    distinct, times = np.unique(numbers, return_counts=True)
    sifted = set(kept[:size].tolist())
    assert set(distinct[times >= least].tolist()) <= sifted
    counts = np.full(ENTRIES, base, np.uint16)
    found = kept[: count_each(kept, size, counts, base, kept, 0)].tolist()
    assert sorted(found) == sorted(sifted)
    expected = dict(zip(distinct.tolist(), times.tolist(), strict=True))
    assert {number: int(counts[number]) - base for number in found} == {number: expected[number] for number in found}
    both = np.empty(len(found) + 1, np.int32)
    most = of_overlap(np.array(found, np.int32), len(found), counts, base, 2, both)
    assert sorted(both[:most].tolist()) == sorted(number for number in found if expected[number] >= 2)


def test_a_counter_of_the_table_stops_before_it_starts_again() -> None:
    numbers = np.full(1000, 7, np.int32)
    table = np.zeros(TABLE, np.uint8)
    tally(numbers, len(numbers), table)
    kept = np.empty(1001, np.int32)
    assert sift(numbers, len(numbers), table, 1000, kept) == 1000


@pytest.mark.parametrize(("base", "groups", "fresh"), [(0, 64, 0), (65_471, 64, 65_471), (65_472, 64, 0)])
def test_counting_starts_again_before_counters_are_full(base: int, groups: int, fresh: int) -> None:
    counts = np.full(9, base, np.uint16)
    assert fresh_base(counts, base, groups) == fresh
    assert int(counts.max()) <= fresh
