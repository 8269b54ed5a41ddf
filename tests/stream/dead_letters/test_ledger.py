"""The count of open dead letters is that of `stats`, whatever the topic holds, loses, and however it is read."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import UnavailableError
from core.settlements import Kind, Settlement, settlement_bytes
from stream.dead_letters.choice import DeadLetterChoice, settled_in
from stream.dead_letters.groups import DeadLetterState, group
from stream.dead_letters.ledger import DeadLetterFollower, OpenLedger
from stream.topic_reader import TopicRecord
from tests.support.fake_reader import FakeReader, FakeTopics

letters = st.sampled_from([Reason.UNPARSABLE, Reason.LOST, Reason.FAULTED]).map(
    lambda reason: dead_letter(BadRecord(reason, "why"), Provenance("t", 0, 1, 2), b"x")
)
ranges = st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))
settlements = st.builds(
    lambda kind, named: settlement_bytes(Settlement(kind, "", tuple(named))),
    st.sampled_from(Kind),
    st.lists(ranges, max_size=3),
)
topics = st.lists(st.tuples(st.integers(1, 2), letters | settlements | st.just(b"junk")), max_size=40)


def topic_of(steps: list[tuple[int, bytes]]) -> list[TopicRecord]:
    records, offset = [], 0
    for step, value in steps:
        offset += step
        records.append(TopicRecord(offset, offset, b"", value))
    return records


def counted(records: list[TopicRecord]) -> dict[Reason, int]:
    """By the two passes that the command makes; a settlement names only what lies before it."""
    found: dict[Reason, int] = {}
    for at, record in enumerate(records):
        one = group([record], DeadLetterChoice(), settled_in(records[at:]))
        for reason, each in one.groups.items():
            found[reason] = found.get(reason, 0) + each.counts[DeadLetterState.OPEN]
    return {reason: number for reason, number in found.items() if number}


def open_of(ledger: OpenLedger) -> dict[Reason, int]:
    return {reason: number for reason, number in ledger.open().items() if number}


@given(topics)
def test_it_counts_as_the_command_does(steps: list[tuple[int, bytes]]) -> None:
    ledger, records = OpenLedger(), topic_of(steps)
    for record in records:
        ledger.add(record)
    assert open_of(ledger) == counted(records)


@given(topics, st.integers(0, 90), topics)
def test_what_the_topic_lost_counts_no_more(
    steps: list[tuple[int, bytes]], first: int, more: list[tuple[int, bytes]]
) -> None:
    ledger, records = OpenLedger(), topic_of(steps)
    for record in records:
        ledger.add(record)
    ledger.forget_before(first)
    end = max(first, records[-1].offset + 1 if records else 0)
    later = [TopicRecord(end + each.offset, 0, b"", each.value) for each in topic_of(more)]
    for record in later:
        ledger.add(record)
    assert open_of(ledger) == counted([each for each in records if each.offset >= first] + later)


def letter(reason: Reason) -> bytes:
    return dead_letter(BadRecord(reason, "why"), Provenance("t", 0, 1, 2), b"x")


class Stop(threading.Event):
    """Does something in each pause, and stops after the last."""

    def __init__(self, *steps: object) -> None:
        super().__init__()
        self.steps = list(steps)

    def wait(self, timeout: float | None = None) -> bool:
        step = self.steps.pop(0)
        if callable(step):
            step()
        if not self.steps:
            self.set()
        return self.is_set()


def test_it_follows_the_topic_over_errors_and_a_new_topic() -> None:
    topics, shown = FakeTopics({"t": []}), list[dict[Reason, int]]()
    refused = [True]

    def connect() -> FakeReader:
        if refused:
            refused.clear()
            raise UnavailableError("nobody there")
        return FakeReader(topics, "t")

    def show(counts: Mapping[Reason, int]) -> None:
        shown.append({reason: number for reason, number in counts.items() if number})

    put = partial(topics.append, "t")
    settle = settlement_bytes(Settlement(Kind.ACKNOWLEDGED, "", ((0, 0),), "a", "b"))
    stop = Stop(
        None,  # after the refused connection
        lambda: put(letter(Reason.LOST)),
        lambda: put(letter(Reason.FAULTED)),
        lambda: put(settle),
        lambda: topics.records["t"].clear(),
        lambda: put(letter(Reason.REFUSED)),
        None,
    )
    DeadLetterFollower(connect, show, stop).follow()
    assert shown == [
        {},
        {Reason.LOST: 1},
        {Reason.LOST: 1, Reason.FAULTED: 1},
        {Reason.FAULTED: 1},
        {},
        {Reason.REFUSED: 1},
    ]
