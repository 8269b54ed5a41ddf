"""When the images that were applied last had arrived, whatever was moved after them."""

from __future__ import annotations

import pytest

from core.types import Cause, ImageId, Move
from storage.arrivals import MOST_READ, earliest_arrival
from storage.memory import MemoryStore
from storage.testing.decisions import deletes, founds, put, replays


def earliest(store: MemoryStore, images: int, most_read: int = MOST_READ) -> int:
    with store.snapshot() as view:
        return earliest_arrival(view, images, most_read)


def test_nothing_has_arrived() -> None:
    assert earliest(MemoryStore(), 5) == 0


@pytest.mark.parametrize(("images", "expected"), [(1, 29), (3, 27), (10, 20), (50, 20)])
def test_the_earliest_of_the_last_images(images: int, expected: int) -> None:
    """Images 0 to 9 arrived at 20 to 29. Then the oldest are replayed and deleted."""
    store = MemoryStore()
    names = [ImageId(f"i{number}") for number in range(10)]
    put(store, *[founds(number, name) for number, name in enumerate(names)])
    # The youngest first; the even ones had been hidden in the index, so they got new places.
    moved = [
        replays(
            10 + row, names[at], Move(names[at], names[at], names[at], Cause.FOUNDED), place=at if at % 2 else 10 + row
        )
        for row, at in enumerate(reversed(range(10)))
    ]
    put(store, *moved)
    put(store, *[deletes(20 + at, name, name) for at, name in enumerate(names[:6])])
    assert earliest(store, images) == expected


@pytest.mark.parametrize(("most_read", "expected"), [(10, 0), (11, 29), (13, 27), (20, 20)])
def test_no_more_of_the_history_is_read_than_asked_for(most_read: int, expected: int) -> None:
    """Images 0 to 9 arrived at 20 to 29. Then as many were deleted, as a manifest may bring millions of rows."""
    store = MemoryStore()
    names = [ImageId(f"i{number}") for number in range(10)]
    put(store, *[founds(number, name) for number, name in enumerate(names)])
    put(store, *[deletes(10 + at, name, name) for at, name in enumerate(names)])
    assert earliest(store, 10, most_read) == expected
