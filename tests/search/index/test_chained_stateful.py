"""The index beside a brute-force oracle: random records, repeats, versions, skips, hides, splits and reopenings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from search.errors import BadInputError, LogGapError, RefusedError
from search.index.chained import ChainedIndex
from search.index.interface import Insert, MoreQuery, Record, Remove, Skip
from search.types import ImageId
from tests.search.index.index_oracle import LOG, Oracle, index_settings, insert, plain, plain_found

IDS = st.sampled_from(["a", "b", "é/ f", "g" * 256]) | st.integers(0, 40).map("i{}".format)
VERSIONS = st.just(1) | st.integers(0, 3) | st.just(2**64 - 1)
CONTENT = st.tuples(
    st.sampled_from(["insert"] * 8 + ["skip", "remove", "unreadable"]),
    IDS,
    VERSIONS,
    st.lists(st.integers(0, 3), min_size=4, max_size=4),
)


def record(offset: int, content: tuple[str, str, int, list[int]]) -> Record:
    kind, image_id, version, terms = content
    if kind == "insert":
        return insert(offset, image_id, version, terms)
    if kind == "remove":
        return Remove(offset, offset + 1, ImageId(image_id), version)
    return Skip(offset, offset + 1, ImageId(image_id if kind == "skip" else ""), version)


class IndexBesideOracle(RuleBasedStateMachine):
    """One index, reopened now and then; every answer must be the oracle's."""

    @initialize(min_overlap=st.integers(1, 3), candidates=st.integers(1, 4))
    def open(self, min_overlap: int, candidates: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.settings = index_settings(min_overlap=min_overlap, candidates=candidates)
        self.index = ChainedIndex(Path(self.folder.name) / "index", self.settings)
        self.oracle = Oracle(self.settings)

    @rule(contents=st.lists(CONTENT, min_size=1, max_size=20), back=st.integers(0, 8))
    def apply(self, contents: list[tuple[str, str, int, list[int]]], back: int) -> None:
        """A batch that may begin with records that were applied before."""
        first = max(0, self.oracle.position + 1 - back)
        old = self.oracle.log[first:]
        new = [record(first + len(old) + index, content) for index, content in enumerate(contents)]
        batch = [*old, *new]
        self.oracle.apply(batch)
        answers = self.index.insert_and_search(LOG, batch)
        assert [plain(answer) for answer in answers] == [self.oracle.answer(one) for one in batch]

    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """Any stretch of the log is answered as ever."""
        if self.oracle.log:
            first = data.draw(st.integers(0, self.oracle.position))
            last = data.draw(st.integers(first, self.oracle.position))
            batch = self.oracle.log[first : last + 1]
            answers = self.index.insert_and_search(LOG, batch)
            assert [plain(answer) for answer in answers] == [self.oracle.answer(one) for one in batch]

    @rule(data=st.data())
    def more(self, data: st.DataObject) -> None:
        places = [placed.offset for placed in self.oracle.placed() if isinstance(placed, Insert)]
        if places:
            asked = data.draw(st.lists(st.tuples(st.sampled_from(places), st.integers(0, 9)), max_size=4))
            found = self.index.search_more([MoreQuery(place, after) for place, after in asked])
            assert [plain_found(one) for one in found] == [self.oracle.more(place, after) for place, after in asked]

    @rule(data=st.data())
    def hide(self, data: st.DataObject) -> None:
        if self.oracle.log:
            place = data.draw(st.integers(0, self.oracle.position))
            self.index.hide(place)
            self.oracle.hide(place)

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
        self.index = ChainedIndex(Path(self.folder.name) / "index", self.settings)

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


@pytest.mark.parametrize("machine", [IndexBesideOracle])
def test_the_index_agrees_with_brute_force(machine: type[IndexBesideOracle]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
