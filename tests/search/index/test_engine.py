"""The laws of the term index, one by one, and what happens when the disk or the memory fails."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInputError, LogGapError, MismatchError, RefusedError, UnavailableError
from core.types import ImageId
from search.index import segment_store
from search.index.engine import SegmentedIndex
from search.index.errors import IndexBrokenError
from search.index.interface import NO_PLACE, Answer, Insert, MoreQuery, Skip, TermQuery
from search.index.tail import Tail
from search.ranking import Order, Ranking
from tests.search.index.index_oracle import LOG, index_settings, insert

SAME = (1, 2, 3, 1)
OTHER = (0, 0, 0, 0)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[SegmentedIndex]:
    opened = SegmentedIndex(tmp_path / "index", index_settings(candidates=5))
    yield opened
    opened.close()


def names(answer: Answer) -> list[str]:
    return list(answer.result.image_ids)


def test_twins_of_one_batch_the_later_sees_the_earlier(index: SegmentedIndex) -> None:
    first, second = index.insert_and_search(LOG, [insert(0, "a", 1, SAME), insert(1, "b", 1, SAME)])
    assert names(first) == []
    assert names(second) == ["a"]
    assert second.result.overlaps.tolist() == [4]


def test_candidates_come_by_overlap_then_age(index: SegmentedIndex) -> None:
    records = [
        insert(0, "one", 1, (1, 0, 0, 0)),
        insert(1, "three", 1, (1, 2, 3, 0)),
        insert(2, "two-old", 1, (1, 2, 0, 0)),
        insert(3, "two-young", 1, (0, 2, 3, 0)),
        insert(4, "none", 1, OTHER),
        insert(5, "query", 1, SAME),
    ]
    answer = index.insert_and_search(LOG, records)[-1]
    assert names(answer) == ["three", "two-old", "two-young", "one"]
    assert answer.result.overlaps.tolist() == [3, 2, 2, 1]
    assert answer.result.places.tolist() == [1, 2, 3, 0]
    assert answer.result.codes[0].tobytes() == records[1].code
    assert answer.result.exhausted


@pytest.mark.parametrize(("order", "listed"), [(Order.OVERLAP, None), (Order.DISTANCE, 24)])
def test_pages_of_any_size_make_the_same_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order, listed: int | None
) -> None:
    wholes = []
    for size in (1, 3, 7, 20):
        monkeypatch.setattr("search.ranking.FURTHER", size)
        ranking = Ranking(size, depth=listed or 1000, order=order)
        index = SegmentedIndex(tmp_path / str(size), index_settings(ranking=ranking))
        random = np.random.RandomState(3)
        records = [insert(place, f"i{place}", 1, random.randint(0, 4, 4).tolist()) for place in range(40)]
        found = index.insert_and_search(LOG, records)[-1].result
        whole = list(found.candidates())
        while not found.exhausted:
            (found,) = index.search_more([MoreQuery(39, len(whole))])
            assert len(found.image_ids) <= size
            whole += found.candidates()
        assert index.search_more([MoreQuery(39, len(whole))])[0].candidates() == ()
        assert index.search_more([MoreQuery(39, 2**32 - 1)])[0].exhausted
        wholes.append(whole)
        index.close()
    assert len(wholes[0]) == listed or (listed is None and len(wholes[0]) > 24)
    assert all(whole == wholes[0] for whole in wholes)


def test_a_repeat_after_ten_thousand_later_inserts_is_answered_as_ever(tmp_path: Path) -> None:
    settings = index_settings(candidates=5, seal_entries=300, merge_fan=2)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    random = np.random.RandomState(5)
    early = [insert(place, f"early-{place}", 1, random.randint(0, 4, 4).tolist()) for place in range(64)]
    before = index.insert_and_search(LOG, early)
    for start in range(64, 10_064, 500):
        terms = random.randint(0, 4, (500, 4)).tolist()
        later = [insert(start + row, f"later-{start + row}", 1, terms[row]) for row in range(500)]
        index.insert_and_search(LOG, later)
    index.hide(3)
    index.insert_and_search(LOG, [insert(10_064, "early-5", 2, SAME)])

    def check(asked: SegmentedIndex, offset: int) -> None:
        again = asked.insert_and_search(LOG, early)
        assert [answer.result.candidates() for answer in again] == [answer.result.candidates() for answer in before]
        # The same image versions in new records: a new offset, the old place and answer.
        ids = [f"early-{row}" for row in range(64) if row != 5]  # 5 has a higher version by now
        repeated = [insert(offset + row, image_id, 1, OTHER) for row, image_id in enumerate(ids)]
        answers = asked.insert_and_search(LOG, repeated)
        expected = [answer for answer in before if answer.offset != 5]
        assert [answer.place for answer in answers] == [answer.place for answer in expected]
        assert [answer.code for answer in answers] == [answer.code for answer in expected]
        assert [answer.result.candidates() for answer in answers] == [a.result.candidates() for a in expected]

    check(index, 10_065)
    assert min(housework(index)) > 0
    check(index, 10_128)
    images = index.images
    index.close()
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    assert index.images == images == 10_063
    check(index, 10_191)
    for start in range(10_254, 11_154, 300):
        index.insert_and_search(LOG, [insert(start + row, f"last-{start + row}") for row in range(300)])
    assert min(housework(index)) > 0
    check(index, 11_154)
    index.close()


def housework(index: SegmentedIndex) -> tuple[int, int]:
    """All that there is to seal and to merge; how often."""
    sealed = merged = 0
    while index._store.seal():
        sealed += 1
    while index._store.merge():
        merged += 1
    return sealed, merged


def test_a_new_version_hides_the_old_one_from_later_places_only(index: SegmentedIndex) -> None:
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME), insert(1, "b", 1, SAME), insert(2, "a", 2, OTHER)])
    assert names(index.insert_and_search(LOG, [insert(3, "c", 1, SAME)])[0]) == ["b"]
    assert names(index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])[0]) == ["a"]
    assert index.images == 3


def test_an_image_never_finds_a_version_of_itself(index: SegmentedIndex) -> None:
    answers = index.insert_and_search(LOG, [insert(place, "a", place, SAME) for place in range(4)])
    assert [names(answer) for answer in answers] == [[], [], [], []]


def test_a_version_below_the_latest_is_superseded(index: SegmentedIndex) -> None:
    index.insert_and_search(LOG, [insert(0, "x", 1, SAME), insert(1, "a", 5, SAME)])
    late, again, unknown = index.insert_and_search(
        LOG, [insert(2, "a", 9, SAME), insert(3, "a", 5, SAME), insert(4, "a", 4, SAME)]
    )
    assert (late.superseded, late.place, names(late)) == (False, 2, ["x"])
    assert (again.superseded, again.place, names(again)) == (True, 1, [])
    assert (unknown.superseded, unknown.place, names(unknown)) == (True, 4, [])
    assert unknown.result.exhausted
    # The record at 1 was no superseded one when it came, and never will be.
    (first,) = index.insert_and_search(LOG, [insert(1, "a", 5, SAME)])
    assert (first.superseded, names(first)) == (False, ["x"])


def test_a_skipped_version_counts_as_placed_but_is_never_found(index: SegmentedIndex) -> None:
    records = [insert(0, "a", 1, SAME), Skip(1, 2, ImageId("a"), 2), insert(2, "b", 1, SAME), insert(3, "a", 2, SAME)]
    answers = index.insert_and_search(LOG, records)
    assert [answer.place for answer in answers] == [0, NO_PLACE, 2, NO_PLACE]
    assert names(answers[2]) == []  # the old version of "a" is no longer what the image is
    assert answers[3].code == b""
    assert index.images == 1
    with pytest.raises(RefusedError) as caught:
        index.search_more([MoreQuery(2, 0), MoreQuery(1, 0)])
    assert caught.value.offset == 1
    index.hide(1)  # nothing to hide, and no error: the caller need not know
    assert index.position.offset == 3


def test_what_was_passed_stays_passed_when_the_record_is_readable_later(index: SegmentedIndex) -> None:
    index.insert_and_search(LOG, [Skip(0, 1, ImageId(""), 0), insert(1, "b", 1, SAME)])
    (answer,) = index.insert_and_search(LOG, [insert(0, "a", 1, SAME)])
    assert (answer.place, names(answer)) == (NO_PLACE, [])
    assert index.images == 1


def test_hiding_concerns_places_after_the_position_of_that_time(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path / "index", index_settings())
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME), insert(1, "b", 1, SAME)])
    index.hide(0)
    size = index.disk_bytes
    index.hide(0)
    assert index.disk_bytes == size
    for _ in range(2):
        assert names(index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])[0]) == ["a"]
        assert names(index.insert_and_search(LOG, [insert(2, "c", 1, SAME)])[0]) == ["b"]
        assert index.images == 2
        index.close()
        index = SegmentedIndex(tmp_path / "index", index_settings())
    index.close()


def test_another_log_or_another_record_at_the_position_is_refused(index: SegmentedIndex) -> None:
    with pytest.raises(LogGapError) as caught:
        index.insert_and_search(LOG, [insert(1, "a")])
    assert caught.value.expected == 0
    index.insert_and_search(LOG, [insert(0, "a"), insert(1, "b")])
    with pytest.raises(LogGapError, match="log-2") as caught:
        index.insert_and_search("log-2", [insert(2, "c")])
    assert caught.value.expected == 2
    other = insert(1, "b")
    changed = Skip(1, other.checksum ^ 1, ImageId("b"), 1)
    with pytest.raises(LogGapError, match="checksum"):
        index.insert_and_search(LOG, [changed, insert(2, "c")])
    assert index.position.offset == 1


def test_batches_that_make_no_sense_are_refused_whole(index: SegmentedIndex) -> None:
    for records in (
        [insert(0, "a"), insert(2, "b")],
        [insert(0, "a"), insert(0, "b")],
        [insert(0, "a"), insert(1, "b", 1, (0, 0, 0))],
        [insert(0, "a"), insert(1, "b", 1, (0, 0, 0, 4))],
        [insert(-1, "a"), insert(0, "b")],
    ):
        with pytest.raises(BadInputError):
            index.insert_and_search(LOG, records)
    with pytest.raises(BadInputError):
        index.insert_and_search("", [insert(0, "a")])
    assert index.insert_and_search(LOG, []) == []
    assert index.position.offset == -1
    assert index.images == 0


def test_a_full_disk_refuses_the_batch_and_is_no_harm_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = SegmentedIndex(tmp_path / "index", index_settings())
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME)])

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        with pytest.raises(UnavailableError, match="No space left"):
            index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])
        with pytest.raises(UnavailableError, match="No space left"):
            index.hide(0)
        with pytest.raises(UnavailableError, match="No space left"):
            index.delete([ImageId("a")])
        # What is there can still be read.
        assert index.search_more([MoreQuery(0, 0)])[0].exhausted
        assert names(index.insert_and_search(LOG, [insert(0, "a", 1, SAME)])[0]) == []
    assert index.position.offset == 0
    assert names(index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])[0]) == ["a"]
    index.close()


def test_an_index_that_differs_from_its_log_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = SegmentedIndex(tmp_path / "index", index_settings())
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME)])

    def fails(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Tail, "add", fails)
        with pytest.raises(MemoryError):
            index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])
    for _ in range(2):
        with pytest.raises(IndexBrokenError, match="again"):
            index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])
    index.close()
    index = SegmentedIndex(tmp_path / "index", index_settings())
    assert names(index.insert_and_search(LOG, [insert(1, "b", 1, SAME)])[0]) == ["a"]
    assert index.position.offset == 1
    index.close()


def test_a_delete_of_many_images_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(index_settings(seal_entries=20), sync=True)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    index.insert_and_search(LOG, [insert(place, f"i{place}", 1, SAME) for place in range(30)])
    index.hide(4)
    synced: list[int] = []
    sync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (synced.append(file), sync(file)))
    ids = [ImageId(f"i{place}") for place in (1, 25, 4, 1, 3, 99)]
    assert index.delete(ids) == [True, True, False, False, True, False]
    assert len(synced) == 1
    assert index.delete(ids) == [False] * 6
    assert index.delete([]) == []
    assert len(synced) == 1
    for _ in range(2):
        assert index.images == 26
        assert [one is not None and one.hidden for one in index.get(ids)] == [True, True, True, True, True, False]
        index.close()
        index = SegmentedIndex(tmp_path / "index", settings, background=False)
    index.close()


def test_terms_and_code_are_those_of_the_version_placed_last(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path / "index", index_settings())
    index.insert_and_search(
        LOG, [insert(0, "a", 1, SAME), insert(1, "a", 2, OTHER), insert(2, "b", 1, SAME), Skip(3, 3, ImageId("c"), 1)]
    )
    index.hide(2)
    found = index.terms_and_codes([ImageId(each) for each in "abcd"])
    assert [None if one is None else one[0].tolist() for one in found] == [list(OTHER), list(SAME), None, None]
    stored = index.get([ImageId("a"), ImageId("b")])
    assert [one and one[1] for one in found[:2]] == [one and one.code for one in stored]
    index.close()


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path / "index", index_settings())
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME)])
    index.close()
    index.close()
    for call in (
        lambda: index.insert_and_search(LOG, [insert(1, "b")]),
        lambda: index.search_more([MoreQuery(0, 0)]),
        lambda: index.hide(0),
    ):
        with pytest.raises(UnavailableError, match="closed"):
            call()


@pytest.mark.parametrize(("seal_entries", "merge_fan"), [(8192, 4), (150, 2)])
def test_readers_get_the_same_answers_while_the_writer_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seal_entries: int, merge_fan: int
) -> None:
    monkeypatch.setattr(segment_store, "_ROOM_WAIT_S", 120.0)  # the first to seal may have to compile the kernels
    settings = index_settings(candidates=20, seal_entries=seal_entries, merge_fan=merge_fan)
    index = SegmentedIndex(tmp_path / "index", settings)
    random = np.random.RandomState(11)
    early = [insert(place, f"e{place}", 1, random.randint(0, 4, 4).tolist()) for place in range(200)]
    expected = [answer.result.candidates() for answer in index.insert_and_search(LOG, early)]
    done = threading.Event()
    wrong: list[object] = []

    def read(seed: int) -> None:
        asked = np.random.RandomState(seed)
        while not done.is_set():
            first = int(asked.randint(0, 190))
            try:
                answers = index.insert_and_search(LOG, early[first : first + 10])
                found = index.search_more([MoreQuery(first, 0)])
            except Exception as error:  # noqa: BLE001 - carried to the main thread
                wrong.append(error)
                return
            got = [answer.result.candidates() for answer in answers] + [found[0].candidates()]
            if got != [*expected[first : first + 10], expected[first]]:
                wrong.append((first, got))
                return

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    # Far enough that the columns grow twice, or that many segments are sealed and merged, with new versions and hides
    # of what the readers see.
    for start in range(200, 4_200, 100):
        terms = random.randint(0, 4, (100, 4)).tolist()
        ids = [f"e{row}" if row % 3 == 0 else f"l{start + row}" for row in range(100)]
        index.insert_and_search(LOG, [insert(start + r, ids[r], 2 + start // 100, terms[r]) for r in range(100)])
        index.hide(start // 100)
    index.tidy()
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    stats = index.stats()
    assert (stats.entries - stats.tail) // 200 > 2 * stats.segments or seal_entries == 8192  # many became few
    index.close()


def test_a_renewed_log_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    settings = index_settings(candidates=5, seal_entries=2)
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME), insert(1, "b", 1, OTHER), insert(2, "c", 1, OTHER)])
    renewed = index.renew("second", 3)
    assert renewed == replace(index.position, log_id="second", offset=2, base=3)
    assert index.renew("second", 3) == renewed
    with pytest.raises(LogGapError):
        index.insert_and_search(LOG, [insert(3, "d", 1, SAME)])
    (answer,) = index.insert_and_search("second", [insert(3, "d", 1, SAME)])
    assert (answer.place, names(answer)) == (3, ["a"])
    at = index.position
    index.close()
    for tidy in (False, True):  # from the log, then from the manifest too
        index = SegmentedIndex(tmp_path / "index", settings, background=False)
        assert index.position == at == replace(renewed, offset=3, checksum=at.checksum)
        if tidy:
            index.tidy()
            index.insert_and_search("second", [insert(4, "e", 1, SAME), insert(5, "f", 1, SAME)])
            index.tidy()
            at = index.position
        index.close()
    index = SegmentedIndex(tmp_path / "index", settings, background=False)
    assert index.position == at
    index.close()


@pytest.mark.parametrize("base", [0, 1, 3])
def test_a_log_that_begins_elsewhere_is_refused(index: SegmentedIndex, base: int) -> None:
    index.insert_and_search(LOG, [insert(0, "a", 1, SAME), insert(1, "b", 1, OTHER)])
    with pytest.raises(MismatchError, match=f"begins at 2, not at {base}"):
        index.renew("second", base)
    with pytest.raises(BadInputError):
        index.renew("", 2)
    assert index.position.log_id == LOG


def coded(place: int, code: bytes, terms: list[int]) -> Insert:
    """An image of a place with a code of its own."""
    return Insert(place, place + 1, ImageId(f"i{place}"), 1, np.array(terms, np.uint32), code)


NEAR_TEST = [
    coded(0, b"\x00\xff", [1, 2, 3, 0]),  # shares three terms, 2 bits away
    coded(1, b"\x03\x00", [1, 2, 0, 0]),  # two terms, 0 bits
    coded(2, b"\x07\x00", [1, 2, 3, 0]),  # three terms, 1 bit
    coded(3, b"\x07\x00", [1, 0, 0, 0]),  # one term, 1 bit
    coded(4, b"\x07\x00", [1, 2, 3, 0]),  # three terms, 1 bit, younger
    coded(5, b"\x03\x00", [1, 0, 0, 0]),  # one term, 0 bits, behind five images that share as many terms or more
    coded(6, b"\x03\x00", [1, 2, 3, 3]),  # the image that asks
]
"""The leading 8 bits are compared."""


def test_of_the_first_by_overlap_the_nearest_come_first(tmp_path: Path) -> None:
    ranking = Ranking(2, depth=5, distance_bits=8)
    index = SegmentedIndex(tmp_path / "index", index_settings(ranking=ranking, seal_entries=3), background=False)
    index.insert_and_search(LOG, NEAR_TEST[:4])
    index.tidy()
    found = index.insert_and_search(LOG, NEAR_TEST[4:])[-1].result
    assert found.image_ids == ("i1", "i2")
    assert found.distances is not None
    assert (found.distances.tolist(), found.overlaps.tolist(), found.exhausted) == ([0, 1], [2, 3], False)
    (rest,) = index.search_more([MoreQuery(6, 2)])
    assert rest.image_ids == ("i4", "i3", "i0")
    assert rest.distances is not None
    assert (rest.distances.tolist(), rest.exhausted) == ([1, 1, 2], True)
    asked = NEAR_TEST[6]
    query = TermQuery(asked.terms, k=10, code=asked.code, without=asked.image_id)
    by_code, by_terms = index.search([query, replace(query, code=b"")])
    assert by_code.image_ids == (*found.image_ids, *rest.image_ids)
    assert (by_terms.image_ids, by_terms.distances) == (("i0", "i2", "i4", "i1", "i3", "i5"), None)
    ranked = index.rank(asked.terms[np.newaxis], 3, as_of=6, codes=np.array([list(asked.code)], np.uint8))
    assert ranked.places.tolist() == [[1, 2, 4]]
    index.close()


def test_a_search_that_starts_behind_depth_is_exhausted(tmp_path: Path) -> None:
    index = SegmentedIndex(tmp_path / "index", index_settings(ranking=Ranking(2, depth=5)), background=False)
    index.insert_and_search(LOG, NEAR_TEST)
    for after in (5, 6, 100):
        (found,) = index.search_more([MoreQuery(6, after)])
        assert (found.image_ids, found.exhausted) == ((), True)
    index.close()


def test_codes_of_another_size_are_refused(index: SegmentedIndex) -> None:
    terms = np.zeros(4, np.uint32)
    with pytest.raises(BadInputError, match="a code of 3 bytes, the index takes 2"):
        index.search([TermQuery(terms, k=1, code=b"123")])
    with pytest.raises(BadInputError, match=r"the codes have the shape \(1, 3\), not \(1, 2\)"):
        index.rank(terms[np.newaxis], 1, codes=np.zeros((1, 3), np.uint8))
