"""Which segments are merged: the youngest of one size, neighbours only, and never too many."""

from __future__ import annotations

import random

from search.index.merging import SegmentSize, choose_merge


def sizes(*entries: int) -> list[SegmentSize]:
    return [SegmentSize(one) for one in entries]


def test_enough_neighbours_of_one_size_are_merged() -> None:
    assert choose_merge([], 10, 3, 10**6) is None
    assert choose_merge(sizes(10, 10), 10, 3, 10**6) is None
    assert choose_merge(sizes(10, 10, 10), 10, 3, 10**6) == (0, 3)
    assert choose_merge(sizes(900, 10, 12, 11), 10, 3, 10**6) == (1, 4)
    assert choose_merge(sizes(90, 90, 90, 10), 10, 3, 10**6) == (0, 3)
    assert choose_merge(sizes(90, 10, 90, 90), 10, 3, 10**6) == (0, 4)  # a small one between goes with them


def test_no_merge_makes_too_large_a_segment() -> None:
    assert choose_merge(sizes(10, 10, 10), 10, 3, 29) is None
    assert choose_merge([SegmentSize(10, 0, 10)] * 3, 10, 3, 100, max_id_bytes=29) is None


def test_a_segment_full_of_what_can_go_is_rewritten() -> None:
    assert choose_merge([SegmentSize(100, 25), SegmentSize(10)], 10, 3, 10**6) is None
    assert choose_merge([SegmentSize(100, 26), SegmentSize(10)], 10, 3, 10**6) == (0, 1)


def test_segments_stay_few_and_each_entry_is_rewritten_seldom() -> None:
    numbers = random.Random(1)
    segments: list[int] = []
    written = added = 0
    for _ in range(3000):
        fresh = numbers.randint(10, 15)
        segments.append(fresh)
        added += fresh
        while (chosen := choose_merge(sizes(*segments), 10, 4, 10**9)) is not None:
            first, last = chosen
            segments[first:last] = [sum(segments[first:last])]
            written += segments[first]
        assert len(segments) <= 3 * 7
    assert sum(segments) == added
    assert written <= 6 * added
