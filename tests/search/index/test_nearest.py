"""The compiled distances and their selection are those of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.gathering import AHEAD
from search.index.nearest import CodeColumn, keep_nearest, measure
from search.index.ranks import bitmap_of, counts_of
from search.ranking import hamming, nearest_first


@pytest.mark.parametrize("count", [0, 1, AHEAD - 1, AHEAD, AHEAD + 1, 300])
@pytest.mark.parametrize(("width", "bits"), [(1, 8), (7, 56), (8, 64), (20, 88), (128, 1024), (640, 1024), (640, 5120)])
def test_distances_are_those_of_the_reference(count: int, width: int, bits: int) -> None:
    random = np.random.RandomState(count + bits)
    # Two sources: in one each entry has a code, in the other two of three have one, in a column that cannot be changed.
    searchable = np.arange(300) % 3 > 0
    whole, part = (random.randint(0, 256, (rows, width)).astype(np.uint8) for rows in (300, int(searchable.sum())))
    whole[0], whole[1], part.flags.writeable = 0, 255, False
    bitmap = bitmap_of(searchable)
    columns = [CodeColumn.of_all(whole), CodeColumn(part.reshape(-1), bitmap, counts_of(bitmap), False)]
    numbers = random.randint(0, 2, (4, 300))
    entries = np.where(
        numbers == 0, random.randint(0, 300, (4, 300)), random.choice(np.flatnonzero(searchable), (4, 300))
    )
    numbers[:, :2], entries[:, :2] = 0, (0, 1)  # with the first code as far apart as codes can be
    codes = np.concatenate([whole[:2], random.randint(0, 256, (2, width)).astype(np.uint8)])
    sizes = np.array([count, count // 2, count, 0])
    distances = np.full((4, 300), 9, np.uint16)
    for number, column in enumerate(columns):
        measure(numbers << 32 | entries, sizes, number, column, codes, bits // 8, distances)
    spread = np.zeros_like(whole)
    spread[searchable] = part
    for row, size in enumerate(sizes.tolist()):
        found = np.where((numbers[row] == 0)[:, np.newaxis], whole[entries[row]], spread[entries[row]])
        assert distances[row, :size].tolist() == hamming(found[:size], codes[row].tobytes(), bits).tolist()
        assert distances[row, size:].tolist() == [9] * (300 - size)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 3) | st.integers(0, 2**16 - 1), st.integers(1, 4)), max_size=40),
        min_size=1,
        max_size=4,
    ),
    wanted=st.integers(1, 50),
)
def test_the_nearest_come_first_and_equal_ones_in_their_order(rows: list[list[tuple[int, int]]], wanted: int) -> None:
    staged = [sorted(row, key=lambda one: -one[1]) for row in rows]  # by overlap, as stage one gives them
    sizes, width = np.array([len(row) for row in staged]), 40
    entries = np.tile(np.arange(100, 100 + width), (len(rows), 1))
    overlaps, distances = np.zeros((len(rows), width), np.uint16), np.zeros((len(rows), width), np.uint16)
    for at, row in enumerate(staged):
        distances[at, : len(row)], overlaps[at, : len(row)] = [one[0] for one in row], [one[1] for one in row]
    before = entries.copy(), overlaps.copy(), distances.copy()
    wants = np.full(len(rows), wanted)
    keep_nearest(entries, overlaps, distances, sizes, wants, np.empty(width, np.int64), np.empty(width, np.int64))
    for at, size in enumerate(sizes.tolist()):
        order = nearest_first(before[2][at, :size], before[1][at, :size])[:wanted]
        for column, was in zip((entries, overlaps, distances), before, strict=True):
            assert column[at, : len(order)].tolist() == was[at, order].tolist()
