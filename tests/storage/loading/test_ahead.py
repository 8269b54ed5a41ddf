"""Items that are read ahead: all of them, in order, few at a time, and no thread stays."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from storage.loading.ahead import ahead


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_all_come_in_order(count: int) -> None:
    assert list(ahead(iter(range(count)), 2)) == list(range(count))
    assert not readers()


def test_few_are_read_before_they_are_asked_for() -> None:
    taken = 0
    third = threading.Event()

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            if taken == 4:  # one was asked for, two wait, and one has no room yet
                third.set()
            yield number

    with closing(ahead(items(), 2)) as found:
        assert next(found) == 0
        assert third.wait(10)
        assert taken == 4
    assert not readers()


def test_what_reading_raises_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    found = ahead(items(), 2)
    assert next(found) == 1
    with pytest.raises(OSError, match="gone"):
        next(found)
    assert not readers()
