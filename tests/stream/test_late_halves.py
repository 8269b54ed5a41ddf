"""Halves that came late wait longer than their time says; a job that reads again must meet them all.

The oracle is a join that knows when each half expires, over partitions that are read in any order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import late_halves, mark_file
from stream.late_halves import settled_offsets, thinned
from stream.mark_file import MarkBook
from stream.read_marks import MarkedRecord, MarkSet, ReadMark, TopicMarks

TIMEOUT_MS = 30
PARTITIONS = (("search", 0), ("search", 1), ("score", 0))


@dataclass
class Join:
    """Three logs, how far each was read, event time, and when each half expires."""

    times: dict[tuple[str, int], list[int]]
    at: dict[tuple[str, int], int] = field(default_factory=lambda: dict.fromkeys(PARTITIONS, 0))
    event_ms: int = -(10**9)
    until_ms: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def read(self, partition: tuple[str, int], count: int, active: set[tuple[str, int]]) -> None:
        """Reads some records; event time follows the slowest of the partitions that are not idle."""
        for offset in range(self.at[partition], min(self.at[partition] + count, len(self.times[partition]))):
            half = (*partition, offset)
            if self.until_ms.get(half, self.event_ms) <= self.event_ms:
                self.until_ms[half] = max(self.times[partition][offset], self.event_ms) + TIMEOUT_MS
            self.at[partition] = offset + 1
            read = [self.times[each][self.at[each] - 1] for each in active | {partition} if self.at[each]]
            self.event_ms = max(self.event_ms, min(read))

    def copy(self) -> Join:
        """A snapshot."""
        return Join(self.times, dict(self.at), self.event_ms, dict(self.until_ms))

    def waiting(self) -> set[tuple[str, int, int]]:
        return {half for half, until_ms in self.until_ms.items() if until_ms > self.event_ms}

    def marks(self) -> MarkSet:
        topics: dict[str, dict[int, ReadMark]] = {}
        for (topic, partition), at in self.at.items():
            record = MarkedRecord(at - 1, 0, self.times[topic, partition][at - 1]) if at else None
            topics.setdefault(topic, {})[partition] = ReadMark(at, record)
        return MarkSet("job", 1, 3, 10**9, {topic: TopicMarks("id", parts) for topic, parts in topics.items()})


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_may_wait_is_read_again(data: st.DataObject) -> None:
    gaps = st.lists(st.integers(0, 15), min_size=20, max_size=40)
    times = {each: list(accumulate(data.draw(gaps))) for each in PARTITIONS}
    join = Join(times)
    book = MarkBook().with_set(join.marks())
    snapshots = [join.copy()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mark_file, "KEPT_SETS", 2)
        patch.setattr(late_halves, "HISTORY_SETS", 4)
        for _ in range(data.draw(st.integers(1, 25))):
            step = data.draw(st.sampled_from(["read", "read", "read", "mark", "mark", "restore"]))
            if step == "read":
                active = data.draw(st.sets(st.sampled_from(PARTITIONS)))
                join.read(data.draw(st.sampled_from(PARTITIONS)), data.draw(st.integers(1, 12)), active)
            elif step == "mark":
                book = book.with_set(join.marks())
                snapshots.append(join.copy())
            else:
                join = data.draw(st.sampled_from(snapshots[-2:])).copy()
                book = book.with_set(join.marks())
        book = book.with_set(join.marks())
        assert len(book.sets) <= 2 + 4
    expired_ms = join.event_ms - TIMEOUT_MS
    settled = settled_offsets(book.sets, expired_ms)
    for topic, partition, offset in join.waiting():
        if offset < join.at[topic, partition]:
            assert offset >= settled[topic, partition] or times[topic, partition][offset] >= expired_ms


def marks(*offsets: int, time_ms: int = 0, topic_id: str = "id") -> MarkSet:
    parts = {part: ReadMark(at, MarkedRecord(at - 1, 0, time_ms)) for part, at in enumerate(offsets)}
    return MarkSet("job", 1, 3, 99, {"search": TopicMarks(topic_id, parts)})


def test_the_newest_marks_from_one_timeout_before_count() -> None:
    sets = [marks(number * 10, time_ms=number * 10) for number in range(1, 11)]
    assert settled_offsets(sets, 45) == {("search", 0): 40}
    # Nothing is known from before these.
    assert settled_offsets(sets, 5) == {("search", 0): 10}
    assert settled_offsets([], 5) == {}


def test_reading_that_went_back_since_counts() -> None:
    sets = [marks(40, time_ms=40), marks(60, time_ms=60), marks(30, time_ms=60), marks(70, time_ms=100)]
    assert settled_offsets(sets, 50) == {("search", 0): 30}
    assert settled_offsets(sets, 60) == {("search", 0): 30}


def test_a_job_that_went_back_may_return_to_what_it_had_reached() -> None:
    """A half of the first marks waits from the time 20 on, if the job returns to the checkpoint of the second ones."""
    sets = [
        marks(1, time_ms=10),
        marks(5, time_ms=20),
        marks(1, time_ms=10),
        marks(2, time_ms=12),
        marks(5, time_ms=20),
    ]
    book = MarkBook()
    for each in sets:
        book = book.with_set(each)
    for kept in (sets, book.sets, thinned(book.sets), book.sets[::2], book.sets[:1] + book.sets[2:]):
        assert settled_offsets(kept, 15) == {("search", 0): 1}


def test_partitions_that_are_new_and_topics_made_anew_are_read_from_their_beginning() -> None:
    assert settled_offsets([marks(40), marks(50, 5, time_ms=9)], 5) == {("search", 0): 40, ("search", 1): 0}
    assert settled_offsets([marks(40), marks(50, time_ms=9, topic_id="other")], 5) == {("search", 0): 0}


def test_a_record_that_has_expired_is_as_old_as_its_mark() -> None:
    unknown = MarkSet("job", 1, 3, 99, {"search": TopicMarks("id", {0: ReadMark(40)})})
    assert settled_offsets([marks(30, time_ms=10), unknown, marks(50, time_ms=200)], 98) == {("search", 0): 30}
    assert settled_offsets([marks(30, time_ms=10), unknown, marks(50, time_ms=200)], 99) == {("search", 0): 40}


def test_older_marks_become_sparse_and_the_oldest_stay() -> None:
    kept: tuple[MarkSet, ...] = ()
    for number in range(1, 2_000):
        kept = thinned((*kept, marks(number)))
        assert len(kept) <= late_halves.HISTORY_SETS
    offsets = [each.topics["search"].partitions[0].offset for each in kept]
    assert offsets[0] == 1
    assert offsets == sorted(offsets)
    assert offsets[-1] > 1_900
