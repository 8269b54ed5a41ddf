"""The share equals that of a plain count over the last keys, and memory is bounded."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.recent_share import RecentShare


@given(keys=st.lists(st.integers(0, 4), max_size=60), window=st.integers(1, 20), least=st.integers(0, 20))
def test_the_share_is_that_of_a_plain_count(keys: list[int], window: int, least: int) -> None:
    recent = RecentShare(window, least)
    for number, key in enumerate(keys, start=1):
        recent.add(key)
        last = keys[max(0, number - window) : number]
        expected = max(Counter(last).values()) / len(last) if len(last) >= least else 0.0
        assert recent.share() == expected


def test_without_keys_there_is_no_share() -> None:
    assert RecentShare(10, 0).share() == 0.0


def test_memory_is_bounded_by_the_window() -> None:
    recent = RecentShare(50, 1)
    for key in range(10_000):
        recent.add(key)
    assert len(recent._keys) == len(recent._counts) == 50
