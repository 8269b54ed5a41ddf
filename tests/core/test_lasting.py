"""What there is when a server is up is exempt from collections; garbage of before and of after goes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from core.lasting import keep_all


class _Cycle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    gc.disable()
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.usefixtures("collected_by_hand")
def test_cycles_of_now_are_left_alone_and_those_of_before_and_after_are_not() -> None:
    before, kept = weakref.ref(_Cycle()), _Cycle()
    now = weakref.ref(kept)
    keep_all()
    assert before() is None
    after = weakref.ref(_Cycle())
    del kept
    gc.collect()
    assert (now() is None, after() is None) == (False, True)


@pytest.mark.usefixtures("collected_by_hand")
def test_what_is_dropped_later_goes_at_once_unless_it_is_in_a_cycle() -> None:
    held: list[set[int]] = [set()]
    there = weakref.ref(held[0])
    keep_all()
    held.clear()
    assert there() is None
