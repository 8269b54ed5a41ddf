"""Placements: what a record meets depends on its offset, not on when it asks."""

from __future__ import annotations

from search.index.placements import Placed, Placements
from search.types import ImageId

A, B = ImageId("a"), ImageId("b")


def test_the_timeline_of_one_image() -> None:
    #   place    10   15   20   30
    #   version   3    -    5    9
    placements = Placements()
    assert placements.latest_version(A) is None
    assert placements.add(A, 3, 10) == (0, -1)
    assert placements.add(B, 1, 15) == (1, -1)
    assert placements.add(A, 5, 20) == (0, 0)
    assert placements.add(A, 9, 30) == (0, 2)
    assert placements.latest_version(A) == 9
    expected = {
        # version, offset: what the record meets
        (3, 10): Placed(0, False),
        (3, 19): Placed(0, False),
        (3, 20): Placed(0, True),
        (3, 99): Placed(0, True),
        (5, 20): Placed(2, False),
        (5, 31): Placed(2, True),
        (9, 30): Placed(3, False),
        (4, 12): Placed(None, False),
        (4, 25): Placed(None, True),
        (1, 10): Placed(None, True),
        (5, 19): Placed(None, False),
        (10, 99): Placed(None, False),
    }
    for (version, offset), placed in expected.items():
        assert placements.find(A, version, offset) == placed, (version, offset)
    assert placements.find(ImageId("unknown"), 1, 99) == Placed(None, False)
    assert [placements.place(entry) for entry in range(4)] == [10, 15, 20, 30]
    assert placements.image_id(1) == B
