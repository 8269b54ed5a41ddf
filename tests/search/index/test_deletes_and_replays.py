"""Deletes and replays of the order, on the timelines of single images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.errors import BadInputError, RefusedError
from core.types import ImageId
from search.index.engine import SegmentedIndex
from search.index.interface import NO_PLACE, Answer, Insert, MoreQuery, Record, Replay, Skip
from tests.search.index.index_oracle import LOG, delete, index_settings, insert, replay

SAME = (1, 2, 3, 1)
OTHER = (0, 0, 0, 0)
SETTINGS = index_settings(candidates=5, seal_entries=3, merge_fan=2)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SegmentedIndex]:
    opened = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    yield opened
    opened.close()


def names(answer: Answer) -> list[str]:
    return list(answer.result.image_ids)


def told(answer: Answer) -> tuple[int, int, bool, bool]:
    return answer.place, answer.version, answer.superseded, answer.deleted


def apply(index: SegmentedIndex, records: Sequence[Record]) -> list[Answer]:
    """All of them, which must be answered alike ever after: one by one, together, and by an index that is tidied."""
    answers = index.insert_and_search(LOG, records)
    for again in (
        [index.insert_and_search(LOG, [record])[0] for record in records],
        index.insert_and_search(LOG, records),
    ):
        assert [(told(one), one.code, names(one)) for one in again] == [
            (told(one), one.code, names(one)) for one in answers
        ]
    index.tidy()
    again = index.insert_and_search(LOG, records)
    assert [(told(one), names(one)) for one in again] == [(told(one), names(one)) for one in answers]
    return answers


def test_a_delete_without_a_version_deletes_the_one_placed_last(index: SegmentedIndex) -> None:
    #   position   0      1      2         3      4      5        6       7      8
    #              a v3   b v1   delete a  c v1   a v3   a v2     a v4    d v1   delete e
    answers = apply(
        index,
        [
            insert(0, "a", 3, SAME),
            insert(1, "b", 1, SAME),
            delete(2, "a"),
            insert(3, "c", 1, SAME),
            insert(4, "a", 3, SAME),
            insert(5, "a", 2, SAME),
            insert(6, "a", 4, SAME),
            insert(7, "d", 1, SAME),
            delete(8, "e"),
        ],
    )
    assert names(answers[1]) == ["a"]
    assert told(answers[2]) == (2, 3, False, True)
    assert names(answers[3]) == ["b"]
    assert (told(answers[4]), answers[4].code, names(answers[4])) == ((2, 0, False, True), b"", [])
    assert (told(answers[5]), names(answers[5])) == ((5, 0, True, False), [])
    assert (told(answers[6]), names(answers[6])) == ((6, 0, False, False), ["b", "c"])
    assert names(answers[7]) == ["b", "c", "a"]
    assert told(answers[8]) == (NO_PLACE, 0, False, False)
    assert index.images == 4


def test_a_delete_with_a_version_deletes_all_up_to_it(index: SegmentedIndex) -> None:
    #   position   0      1            2            3            4            5      6            7
    #              a v3   delete a v2  delete a v3  delete a v3  delete a v9  a v8   delete b v1  b v1
    answers = apply(
        index,
        [
            insert(0, "a", 3, SAME),
            delete(1, "a", 2),
            delete(2, "a", 3),
            delete(3, "a", 3),
            delete(4, "a", 9),
            insert(5, "a", 8, SAME),
            delete(6, "b", 1),
            insert(7, "b", 1, SAME),
        ],
    )
    assert told(answers[1]) == (NO_PLACE, 3, True, False)
    assert told(answers[2]) == (2, 3, False, True)
    assert told(answers[3]) == (2, 3, False, False)
    assert told(answers[4]) == (4, 3, False, True)
    assert told(answers[5]) == (5, 0, True, False)
    assert told(answers[6]) == (6, 0, False, True)
    assert told(answers[7]) == (6, 0, False, True)
    assert index.images == 0
    assert [(one.deleted, one.version, one.place) for one in index.get([ImageId("a"), ImageId("b")]) if one] == [
        (True, 9, 4),
        (True, 1, 6),
    ]


def test_a_replay_finds_the_image_at_its_place_and_searches_as_of_its_own(index: SegmentedIndex) -> None:
    #   position   0      1      2      3         4      5         6
    #              a v1   b v1   c v1   replay b  b v2   replay b  replay b, with an image of its own
    answers = apply(
        index,
        [
            insert(0, "a", 1, SAME),
            insert(1, "b", 1, SAME),
            insert(2, "c", 1, SAME),
            replay(3, "b"),
            insert(4, "b", 2, OTHER),
            replay(5, "b"),
            replay(6, "b", 2, SAME),
        ],
    )
    assert names(answers[1]) == ["a"]
    assert (told(answers[3]), names(answers[3])) == ((1, 1, False, False), ["a", "c"])
    assert answers[3].code == answers[1].code
    assert (told(answers[5]), names(answers[5])) == ((4, 2, False, False), [])
    assert (told(answers[6]), answers[6].code, names(answers[6])) == ((4, 2, False, False), answers[4].code, [])
    assert index.stats().entries == 4


def test_an_image_that_was_skipped_gets_the_place_of_its_replay(index: SegmentedIndex) -> None:
    #   position   0          1      2         3          4         5      6      7
    #              skip a v2  b v1   replay a  with a v1  with a v2 c v1   a v2   replay a
    answers = apply(
        index,
        [
            Skip(0, 1, ImageId("a"), 2),
            insert(1, "b", 1, SAME),
            replay(2, "a"),
            replay(3, "a", 1, SAME),
            replay(4, "a", 2, SAME),
            insert(5, "c", 1, SAME),
            insert(6, "a", 2, OTHER),
            replay(7, "a", 2, OTHER),
        ],
    )
    assert [told(one) for one in answers[2:4]] == [(NO_PLACE, 2, False, False)] * 2
    assert (told(answers[4]), names(answers[4])) == ((4, 2, False, False), ["b"])
    assert names(answers[5]) == ["b", "a"]
    assert (told(answers[6]), names(answers[6])) == ((4, 0, False, False), ["b"])
    assert (told(answers[7]), names(answers[7])) == ((4, 2, False, False), ["b", "c"])
    assert answers[4].code == answers[7].code == insert(0, "a", 2, SAME).code


def test_an_image_that_the_index_does_not_know_comes_with_its_replay(index: SegmentedIndex) -> None:
    answers = apply(index, [replay(0, "a"), replay(1, "a", 7, SAME), insert(2, "b", 1, SAME), insert(3, "a", 7, SAME)])
    assert told(answers[0]) == (NO_PLACE, 0, False, False)
    assert told(answers[1]) == (1, 7, False, False)
    assert names(answers[2]) == ["a"]
    assert told(answers[3]) == (1, 0, False, False)


@pytest.mark.parametrize("released", [False, True])
def test_a_hidden_image_gets_the_place_of_its_replay(index: SegmentedIndex, released: bool) -> None:
    records: list[Record] = [insert(0, "a", 1, SAME), insert(1, "b", 1, SAME), replay(2, "a", 1, SAME)]
    index.insert_and_search(LOG, records)
    index.hide(0)
    if released:
        index.release(2)
    index.insert_and_search(LOG, [insert(3 + row, f"i{row}", 1, OTHER) for row in range(6)])
    index.tidy()
    # The replay at 2 came before the image was hidden, the one at 9 after it.
    assert told(index.insert_and_search(LOG, [records[2]])[0])[1:] == (1, False, False)
    answers = apply(index, [replay(9, "a"), replay(10, "a", 1, SAME), insert(11, "c", 1, SAME), replay(12, "a")])
    assert (told(answers[0]), names(answers[0])) == ((NO_PLACE, 1, False, False), [])
    assert (told(answers[1]), names(answers[1])) == ((10, 1, False, False), ["b"])
    assert names(answers[2]) == ["b", "a"]
    assert (told(answers[3]), names(answers[3])) == ((10, 1, False, False), ["b", "c"])


def test_what_was_deleted_is_not_brought_back_by_a_replay(index: SegmentedIndex) -> None:
    answers = apply(
        index,
        [
            insert(0, "a", 1, SAME),
            delete(1, "a"),
            replay(2, "a"),
            replay(3, "a", 1, SAME),
            replay(4, "a", 5, SAME),
            insert(5, "b", 1, SAME),
        ],
    )
    assert [told(one) for one in answers[2:5]] == [(1, 1, False, True)] * 3
    assert names(answers[5]) == []
    assert [one.code for one in answers[2:5]] == [b""] * 3


def test_an_image_its_replay_and_its_delete_meet_in_one_batch(tmp_path: Path) -> None:
    records: list[Record] = [
        insert(0, "x", 1, SAME),
        insert(1, "a", 1, SAME),
        replay(2, "a", 1, SAME),
        insert(3, "y", 1, SAME),
        replay(4, "a"),
        delete(5, "a"),
        replay(6, "a", 1, SAME),
        insert(7, "a", 1, SAME),
        insert(8, "a", 2, SAME),
        replay(9, "a", 2, SAME),
    ]
    expected = [
        ((0, 0, False, False), []),
        ((1, 0, False, False), ["x"]),
        ((1, 1, False, False), ["x"]),
        ((3, 0, False, False), ["x", "a"]),
        ((1, 1, False, False), ["x", "y"]),
        ((5, 1, False, True), []),
        ((5, 1, False, True), []),
        ((5, 0, False, True), []),
        ((8, 0, False, False), ["x", "y"]),
        ((8, 2, False, False), ["x", "y"]),
    ]
    for size in (1, 2, 3, 10):
        index = SegmentedIndex(tmp_path / str(size), SETTINGS, background=False)
        for first in range(0, len(records), size):
            # Some records of the batch before come again, as after a restart.
            batch = records[max(0, first - 2) : first + size]
            got = [(told(one), names(one)) for one in index.insert_and_search(LOG, batch)]
            assert got == expected[max(0, first - 2) : first + size]
            index.close()
            index = SegmentedIndex(tmp_path / str(size), SETTINGS, background=False)
            index.tidy()
        assert [(told(one), names(one)) for one in index.insert_and_search(LOG, records)] == expected
        index.close()


def test_further_pages_of_a_replay_are_those_as_of_its_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.ranking.FURTHER", 1)
    index = SegmentedIndex(tmp_path / "index", index_settings(candidates=1), background=False)
    records = [insert(0, "a", 1, SAME), *(insert(row, f"i{row}", 1, SAME) for row in range(1, 4)), replay(4, "a")]
    (first,) = index.insert_and_search(LOG, [*records, insert(5, "later", 1, SAME)])[4:5]
    assert (names(first), first.result.exhausted) == (["i1"], False)
    pages = index.search_more([MoreQuery(0, after, 4) for after in range(4)])
    assert [one.image_ids for one in pages] == [("i1",), ("i2",), ("i3",), ()]
    assert index.search_more([MoreQuery(0, 0)])[0].image_ids == ()  # as of its place there is nothing
    index.release(3)
    refused = (MoreQuery(0, 0), 0), (MoreQuery(0, 0, 3), 3), (MoreQuery(0, 0, 6), 6), (MoreQuery(5, 0, 4), 4)
    for query, place in refused:
        with pytest.raises(RefusedError, match=f"as of place {place} ") as caught:
            index.search_more([query])
        assert (
            caught.value.offset == place
        )  # of the record that asks: the image may be in its batch, and is not to blame
    assert index.search_more([MoreQuery(0, 1, 4)])[0].image_ids == ("i2",)
    index.close()


def test_the_image_of_a_replay_has_the_sizes_of_an_insert(index: SegmentedIndex) -> None:
    bad = Replay(0, 1, ImageId("a"), Insert(0, 1, ImageId("a"), 1, insert(0, "a").terms[:3], b"12"))
    with pytest.raises(BadInputError):
        index.insert_and_search(LOG, [bad])
    assert index.position.offset == -1


def test_an_image_that_is_placed_without_a_search_is_found_replayed_and_deleted_as_any_other(
    index: SegmentedIndex,
) -> None:
    #   position   0      1 unsearched   2      3 again, unsearched   4 replay b   5 v2, unsearched   6
    #              a v1   b v1           c v1   b v1                  b            b                  delete b
    answers = apply(
        index,
        [
            insert(0, "a", 1, SAME),
            insert(1, "b", 1, SAME, searched=False),
            insert(2, "c", 1, SAME),
            insert(3, "b", 1, SAME, searched=False),
            replay(4, "b"),
            insert(5, "b", 2, SAME, searched=False),
            delete(6, "b"),
            insert(7, "b", 2, SAME, searched=False),
        ],
    )
    assert [names(one) for one in answers] == [[], [], ["a", "b"], [], ["a", "c"], [], [], []]
    assert [one.place for one in answers] == [0, 1, 2, 1, 1, 5, 6, 6]
    code, newer = insert(1, "b").code[:1], insert(1, "b", 2).code[:1]
    assert [one.code[:1] for one in answers[1::2]] == [code, code, newer, b""]
    assert answers[7].deleted
    assert index.search_more([MoreQuery(1, 0)])[0].image_ids == ("a",)
