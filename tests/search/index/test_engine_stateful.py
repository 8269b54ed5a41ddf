"""The index beside a brute-force oracle: random records, repeats, versions, removes, hides, seals, merges, releases."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core.errors import BadInputError, LogGapError, RefusedError
from core.types import ImageId
from search.index.engine import SegmentedIndex
from search.index.interface import NO_IMAGE, NO_PLACE, Insert, MoreQuery, Record, Replay, Skip, Stored, TermQuery
from search.ranking import Order, Ranking
from tests.search.index.index_oracle import (
    LOG,
    Deleted,
    Oracle,
    Plain,
    delete,
    index_settings,
    insert,
    plain,
    plain_found,
    replay,
)

IDS = st.sampled_from(["a", "b", "é/ f", "g" * 256]) | st.integers(0, 40).map("i{}".format)
MAX_VERSION = 2**64 - 1
VERSIONS = st.just(1) | st.integers(0, 3) | st.just(MAX_VERSION)
TERMS = st.lists(st.integers(0, 3), min_size=4, max_size=4)
KINDS = ["unsearched", "skip", "delete", "delete last", "forget", "forget last", "replay", "bare replay"]
CONTENT = st.tuples(st.sampled_from(["insert"] * 8 + KINDS + ["unreadable"]), IDS, VERSIONS, TERMS)
OF_ONE_IMAGE = st.tuples(st.sampled_from(["insert", *KINDS]), st.just("a"), st.integers(0, 2), TERMS)

RANKINGS = st.builds(
    Ranking,
    candidates=st.integers(1, 4),
    depth=st.integers(4, 12),
    order=st.sampled_from(Order),
    min_overlap=st.integers(1, 3),
    distance_bits=st.sampled_from([0, 8]),
)
CODES = st.just(b"") | st.binary(min_size=2, max_size=2)

Content = tuple[str, str, int, list[int]]


def record(offset: int, content: Content) -> Record:
    kind, image_id, version, terms = content
    if kind in ("insert", "unsearched"):
        return insert(offset, image_id, version, terms, searched=kind == "insert")
    if kind in ("delete", "delete last", "forget", "forget last"):
        return delete(offset, image_id, None if "last" in kind else version, forget="forget" in kind)
    if kind in ("replay", "bare replay"):
        return replay(offset, image_id, version if kind == "replay" else None, terms)
    return Skip(offset, offset + 1, ImageId(image_id if kind == "skip" else ""), version)


class IndexBesideOracle(RuleBasedStateMachine):
    """One index with a tiny tail, reopened now and then; every answer must be the oracle's."""

    seal_entries = 5
    max_postings = 10**8

    @initialize(ranking=RANKINGS)
    def open(self, ranking: Ranking) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.settings = index_settings(
            ranking=ranking,
            seal_entries=self.seal_entries,
            merge_fan=2,
            max_postings=self.max_postings,
        )
        self.index = self.opened()
        self.oracle = Oracle(self.settings)
        self.released = -1

    def opened(self) -> SegmentedIndex:
        return SegmentedIndex(Path(self.folder.name) / "index", self.settings, background=False)

    def still_asked(self, first: int, last: int) -> list[Record]:
        """Records of a stretch of the log whose searches are not released."""
        return [one for one in self.oracle.log[first : last + 1] if one.offset > self.released]

    @rule(
        contents=st.lists(CONTENT, min_size=1, max_size=20) | st.lists(OF_ONE_IMAGE, min_size=1, max_size=6),
        back=st.integers(0, 8),
    )
    def apply(self, contents: list[Content], back: int) -> None:
        """A batch that may begin with records that were applied before."""
        first = max(0, self.oracle.position + 1 - back)
        old = self.oracle.log[first:]
        new = [record(first + len(old) + index, content) for index, content in enumerate(contents)]
        batch = [*old, *new]
        self.oracle.apply(batch)
        answers = self.index.insert_and_search(LOG, batch)
        self.compare(batch, [plain(answer) for answer in answers])

    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Any stretch of the log is answered as ever."""
        if self.oracle.log:
            first = data.draw(st.integers(0, self.oracle.position))
            batch = self.oracle.log[first : data.draw(st.integers(first, self.oracle.position)) + 1]
            self.compare(batch, [plain(answer) for answer in self.index.insert_and_search(LOG, batch)])

    def compare(self, batch: list[Record], answers: list[Plain]) -> None:
        for one, answer in zip(batch, answers, strict=True):
            expected = self.oracle.answer(one)
            as_of = one.offset if isinstance(one, Replay) else expected.place
            if as_of > self.released or not expected.code:
                assert answer == expected
                continue
            # Its code and candidates may be gone. So may what a replay found, but not what it placed.
            assert (answer.superseded, answer.version, answer.deleted) == (expected.superseded, expected.version, False)
            if not isinstance(one, Replay) or expected.place == one.offset or answer.place != NO_PLACE:
                assert answer.place == expected.place

    @rule(data=st.data())
    def more(self, data: st.DataObject) -> None:
        images = [one for one in self.oracle.placed() if isinstance(one, Insert)]
        askable = range(self.released + 1, self.oracle.position + 1)
        queries = [MoreQuery(one.offset, 0) for one in images if one.offset in askable]
        queries += [MoreQuery(one.offset, 0, at) for one in images for at in askable if self.oracle.visible(one, at)]
        if queries:
            asked = data.draw(st.lists(st.tuples(st.sampled_from(queries), st.integers(0, 9)), max_size=4))
            found = self.index.search_more([replace(query, after=after) for query, after in asked])
            assert [plain_found(one) for one in found] == [
                self.oracle.more(query.place, after, query.as_of) for query, after in asked
            ]

    @rule(back=st.integers(0, 3))
    def what_is_released_is_not_asked_for(self, back: int) -> None:
        asked = self.released - back
        images = [one.offset for one in self.oracle.placed() if isinstance(one, Insert) and one.offset <= asked]
        for query in [MoreQuery(place, 0, asked) for place in images[-1:]] + [MoreQuery(place, 0) for place in images]:
            with pytest.raises(RefusedError, match="as of place"):
                self.index.search_more([query])

    @rule(data=st.data())
    def search(self, data: st.DataObject) -> None:
        now = self.oracle.position + 1
        queries = data.draw(
            st.lists(
                st.builds(
                    TermQuery,
                    TERMS.map(lambda terms: np.array(terms, np.uint32)),
                    k=st.integers(1, 5),
                    after=st.integers(0, 4),
                    min_overlap=st.none() | st.integers(1, 4),
                    as_of=st.none() | st.integers(min(self.released + 1, now), now),
                    without=(IDS | st.just(NO_IMAGE)).map(ImageId),
                    code=CODES,
                ),
                max_size=4,
            )
        )
        assert [plain_found(one) for one in self.index.search(queries)] == [self.oracle.free(one) for one in queries]
        for query in queries:
            codes = np.frombuffer(query.code, np.uint8)[np.newaxis] if query.code else None
            ranked = self.index.rank(query.terms[np.newaxis], query.k, query.min_overlap, query.as_of, codes)
            candidates, distances, exhausted = self.oracle.free(replace(query, after=0, without=NO_IMAGE))
            size = int(ranked.sizes[0])
            assert ranked.places[0, :size].tolist() == [one.place for one in candidates]
            assert ranked.overlaps[0, :size].tolist() == [one.overlap for one in candidates]
            assert (ranked.distances is None) == (distances is None)
            if ranked.distances is not None:
                assert tuple(ranked.distances[0, :size].tolist()) == distances
            assert bool(ranked.exhausted[0]) == exhausted

    @rule(ids=st.lists(IDS.map(ImageId), max_size=4))
    def get(self, ids: list[ImageId]) -> None:
        for image_id, got in zip(ids, self.index.get(ids), strict=True):
            expected = self.oracle.stored(image_id)
            if expected is not None and expected.hidden and got is not None:
                assert (got.place, got.version, got.hidden) == (expected.place, expected.version, True)
            else:
                assert got is None or got.erased <= got.deleted
                assert (got and replace(got, erased=False)) == expected

    @rule(limit=st.integers(1, 6))
    def list_pages(self, limit: int) -> None:
        expected = {one.offset: one for one in self.oracle.listed()}
        found: list[Stored] = []
        after, complete = -1, False
        while not complete:
            page = self.index.list_page(after, limit)
            assert len(page.entries) <= limit
            assert page.complete or page.through > after
            found += page.entries
            after, complete = page.through, page.complete
        assert [one.place for one in found] == list(expected)
        for one in found:
            record = expected[one.place]
            assert (one.version, one.deleted) == (record.version, isinstance(record, Deleted))
            assert one.erased or one.image_id == record.image_id
        places = range(-1, self.oracle.position + 2)
        assert self.index.list_at(places) == [{one.place: one for one in found}.get(place) for place in places]

    @rule()
    def what_was_forgotten_is_in_no_file(self) -> None:
        """Once it is released and the index is tidied; what came back since is there."""
        if not self.oracle.log:
            return
        self.let_go(self.oracle.position)
        self.index.tidy()
        last = {one.image_id: one for one in self.oracle.placed()}
        gone = [
            each.encode() for each, one in last.items() if len(each) > 3 and isinstance(one, Deleted) and one.forget
        ]
        files = [each.read_bytes() for each in Path(self.folder.name).rglob("*") if each.is_file()]
        assert not [each for each in gone if any(each in content for content in files)]
        assert self.index.stats().forgetting == 0

    @rule(data=st.data())
    def hide(self, data: st.DataObject) -> None:
        if self.oracle.log:
            place = data.draw(st.integers(0, self.oracle.position))
            self.index.hide(place)
            self.oracle.hide(place)

    @rule(image_ids=st.lists(IDS.map(ImageId), max_size=4))
    def delete(self, image_ids: list[ImageId]) -> None:
        expected = []
        for image_id in image_ids:
            before = self.oracle.stored(image_id)
            expected.append(before is not None and not before.hidden)
            if before is not None:
                self.oracle.hide(before.place)
        assert self.index.delete(image_ids) == expected

    @rule()
    def tidy(self) -> None:
        """There is an end to it: nothing is rewritten that loses nothing."""
        steps = 0
        while self.index._housekeeping.step():
            steps += 1
            assert steps <= 2 * self.oracle.position + 10

    @rule(every=st.integers(1, 3), released=st.booleans())
    def delete_and_bring_back(self, every: int, released: bool) -> None:
        """Many images are deleted and come again, with a higher version each time; then there is much to forget."""
        latest = {one.image_id: one.version for one in self.oracle.placed()}
        ids = [image_id for image_id, version in latest.items() if version <= MAX_VERSION - 2][::every]
        kinds = ["delete", "delete last", "forget", "forget last"]
        removes = [(kinds[row % 4], image_id, latest[image_id] + 1, [0] * 4) for row, image_id in enumerate(ids)]
        inserts = [("insert", image_id, latest[image_id] + 2, [row % 4, 1, 2, 3]) for row, image_id in enumerate(ids)]
        self.apply([*removes, *inserts], 0)
        if released:
            self.let_go(self.oracle.position)
        self.tidy()

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.oracle.log:
            self.let_go(data.draw(st.integers(0, self.oracle.position)))

    def let_go(self, offset: int) -> None:
        self.index.release(offset)
        self.released = max(self.released, offset)

    @rule(ahead=st.integers(2, 5))
    def gaps_are_refused(self, ahead: int) -> None:
        offset = self.oracle.position + ahead
        with pytest.raises(LogGapError) as caught:
            self.index.insert_and_search(LOG, [insert(offset, "a")])
        assert caught.value.expected == self.oracle.position + 1

    @rule(ahead=st.integers(1, 5))
    def places_to_come_are_refused(self, ahead: int) -> None:
        place = self.oracle.position + ahead
        with pytest.raises(RefusedError):
            self.index.search_more([MoreQuery(place, 0)])
        with pytest.raises(RefusedError):
            self.index.hide(place)

    @rule()
    def broken_batches_change_nothing(self) -> None:
        offset = self.oracle.position + 1
        bad = Insert(offset + 1, 0, ImageId("x"), 1, np.zeros(5, np.uint32), b"12")
        with pytest.raises(BadInputError):
            self.index.insert_and_search(LOG, [insert(offset, "x"), bad])

    @rule()
    def reopen(self) -> None:
        self.index.close()
        self.index = self.opened()

    @rule()
    def go_on_with_a_snapshot(self) -> None:
        copy = Path(self.folder.name) / "copy"
        assert self.index.snapshot(copy) == self.index.position
        self.index.close()
        shutil.rmtree(Path(self.folder.name) / "index")
        copy.rename(Path(self.folder.name) / "index")
        self.index = self.opened()

    @invariant()
    def position_and_count_agree(self) -> None:
        assert self.index.position.offset == self.oracle.position
        assert self.index.position.checksum == (self.oracle.log[-1].checksum if self.oracle.log else 0)
        assert self.index.position.log_id == (LOG if self.oracle.log else "")
        assert self.index.images == self.oracle.images()

    def teardown(self) -> None:
        if hasattr(self, "index"):
            self.index.close()
            self.folder.cleanup()


class TailOfOneBesideOracle(IndexBesideOracle):
    """The same where nearly everything is sealed at once, and merged in twos."""

    seal_entries = 1


class BoundedBesideOracle(IndexBesideOracle):
    """The same where only the three oldest images of each list count."""

    max_postings = 12


@pytest.mark.parametrize("machine", [IndexBesideOracle, TailOfOneBesideOracle, BoundedBesideOracle])
def test_the_index_agrees_with_brute_force(machine: type[IndexBesideOracle], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.ranking.FURTHER", 3)
    monkeypatch.setattr("search.index.listing.LOOKED_AT", 4)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
