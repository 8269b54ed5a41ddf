"""A place is held for the block, given back after an error, and never waited for."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from core.errors import BusyError
from core.few import one_of_few


@pytest.mark.parametrize("places", [threading.Lock(), threading.BoundedSemaphore(2)])
def test_as_many_as_there_are_places_and_no_more(places: threading.Lock | threading.BoundedSemaphore) -> None:
    count = 2 if isinstance(places, threading.BoundedSemaphore) else 1
    for _ in range(2):  # all are given back
        with ExitStack() as held:
            for _ in range(count):
                held.enter_context(one_of_few(places, "all are taken", 2.5))
            with pytest.raises(BusyError, match="all are taken") as raised, one_of_few(places, "all are taken", 2.5):
                pass
            assert raised.value.retry_after_s == 2.5


def test_an_error_gives_the_place_back() -> None:
    lock = threading.Lock()
    with pytest.raises(ValueError, match="mine"), one_of_few(lock, "busy", 1.0):
        raise ValueError("mine")
    assert not lock.locked()
