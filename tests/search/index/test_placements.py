"""Placements: what a record meets depends on its offset, not on when it asks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from core.types import ImageId
from search.index.columns import Kind
from search.index.placements import Met, Placement, PlacementsOfCall, meet


def placed(place: int, version: int) -> Placement:
    return Placement(place, version, Kind.SEARCHABLE, 0, place)


IMAGE = ImageId("a")


def among(timeline: list[Placement], image_id: ImageId, before: int, version: int) -> Placement | None:
    """The last placement within the bounds, found by looking at all."""
    assert image_id == IMAGE
    return max((one for one in timeline if one.place < before and one.version <= version), key=_place, default=None)


def _place(one: Placement) -> int:
    return one.place


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
        assert meet(partial(among, timeline), IMAGE, version, offset) == met, (version, offset)
    assert meet(partial(among, []), IMAGE, 1, 99) == Met(None, False)


def test_a_delete_and_a_new_place_have_the_version_of_the_placement_before() -> None:
    #   place    10        20       30        40
    #   version   3         3        4         4
    #          skipped  replayed  inserted  deleted
    kinds = [Kind.SKIPPED, Kind.SEARCHABLE, Kind.SEARCHABLE, Kind.REMOVED]
    timeline = [replace(placed(10 * row, 3 + row // 3), kind=kind) for row, kind in enumerate(kinds, 1)]
    expected = {
        # version, offset: what the record meets
        (3, 10): Met(timeline[0], False),
        (3, 20): Met(timeline[1], False),
        (3, 30): Met(timeline[1], True),
        (4, 39): Met(timeline[2], False),
        (4, 40): Met(timeline[3], False),
        (5, 41): Met(None, False),
    }
    for (version, offset), met in expected.items():
        assert meet(partial(among, timeline), IMAGE, version, offset) == met, (version, offset)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5)), max_size=8),
    st.integers(0, 8),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_a_call_finds_what_was_there_and_what_it_adds(
    steps: list[tuple[int, int]], known: int, before: int, version: int
) -> None:
    timeline, at = list[Placement](), (0, 0)
    for step in steps:
        at = (at[0] + step[0], at[1] + step[1])
        timeline.append(placed(*at))
    there = timeline[:known]
    call = PlacementsOfCall({IMAGE: there[-1] if there else None}, partial(among, there))
    for one in timeline[known:]:
        call.add(IMAGE, one)
    assert call.newest(IMAGE) == (timeline[-1] if timeline else None)
    assert call.last(IMAGE, before, version) == among(timeline, IMAGE, before, version)
