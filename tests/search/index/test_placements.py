"""Placements: what a record meets depends on its offset, not on when it asks."""

from __future__ import annotations

from search.index.columns import Kind
from search.index.placements import Met, Placement, latest_before, meet


def placed(place: int, version: int) -> Placement:
    return Placement(place, version, Kind.SEARCHABLE, 0, place)


def test_the_timeline_of_one_image() -> None:
    #   place    10   20   30
    #   version   3    5    9
    first, second, third = timeline = [placed(10, 3), placed(20, 5), placed(30, 9)]
    expected = {
        # version, offset: what the record meets
        (3, 10): Met(first, False),
        (3, 19): Met(first, False),
        (3, 20): Met(first, True),
        (3, 99): Met(first, True),
        (5, 20): Met(second, False),
        (5, 31): Met(second, True),
        (9, 30): Met(third, False),
        (4, 12): Met(None, False),
        (4, 25): Met(None, True),
        (1, 10): Met(None, True),
        (5, 19): Met(None, False),
        (10, 99): Met(None, False),
    }
    for (version, offset), met in expected.items():
        assert meet(timeline, version, offset) == met, (version, offset)
    assert meet([], 1, 99) == Met(None, False)


def test_only_the_latest_version_before_a_place_could_be_found() -> None:
    timeline = [placed(10, 3), placed(20, 5)]
    assert latest_before(timeline, 10) is None
    assert latest_before(timeline, 11) == timeline[0]
    assert latest_before(timeline, 20) == timeline[0]
    assert latest_before(timeline, 21) == timeline[1]
    assert latest_before([], 5) is None
