"""The compiled distances and their selection are those of the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.index.gathering import AHEAD
from search.index.nearest import distances_of, keep_nearest
from search.ranking import hamming, nearest_first


@pytest.mark.parametrize("count", [0, 1, AHEAD - 1, AHEAD, AHEAD + 1, 300])
@pytest.mark.parametrize(("width", "bits"), [(1, 8), (7, 56), (8, 64), (20, 88), (128, 1024), (640, 1024), (640, 5120)])
def test_distances_are_those_of_the_reference(count: int, width: int, bits: int) -> None:
    random = np.random.RandomState(count + bits)
    column = random.randint(0, 256, (200, width)).astype(np.uint8)
    column[0], column[1] = 0, 255  # as far apart as codes can be
    codes = np.concatenate([column[:2], random.randint(0, 256, (3, width)).astype(np.uint8)])
    rows, asked = random.randint(0, 200, count), random.randint(0, len(codes), count)
    rows[:2], asked[:2] = [1, 0][: len(rows[:2])], [0, 0][: len(asked[:2])]
    pairs = zip(column[rows], codes[asked], strict=True)
    expected = [int(hamming(other[np.newaxis], own.tobytes(), bits)[0]) for other, own in pairs]
    assert distances_of(column, rows, codes, asked, bits).tolist() == expected
    column.flags.writeable = False  # as a mapped file is
    assert distances_of(column, rows, codes, asked, bits).tolist() == expected


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
    keys, spare = np.empty(width, np.int64), np.empty(width, np.int64)
    wants = np.full(len(rows), wanted)
    keep_nearest(entries, overlaps, distances, sizes, wants, keys, spare, np.empty(width, np.uint16))
    for at, size in enumerate(sizes.tolist()):
        order = nearest_first(before[2][at, :size], before[1][at, :size])[:wanted]
        for column, was in zip((entries, overlaps, distances), before, strict=True):
            assert column[at, : len(order)].tolist() == was[at, order].tolist()
