"""Groups by reason, and acknowledgements: what is settled is exactly what was chosen, also after crashes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.dead_letters import BadRecord, Provenance, Reason, dead_letter
from core.errors import BadInputError, UnavailableError
from core.settlements import Kind, Settlement, parse_settlement, settlement_bytes
from stream.dead_letters import settling
from stream.dead_letters.choice import DeadLetterChoice, settled_in
from stream.dead_letters.groups import DeadLetterState, group
from stream.dead_letters.settling import Acknowledgement, SettlingReport, acknowledge, checked_offsets
from stream.topic_reader import TopicRecord

BY = Acknowledgement("anna", "a test")
REASONS = (Reason.UNPARSABLE, Reason.FAULTED, Reason.MISSING_SCORE_HALF)


def record(offset: int, reason: Reason = Reason.UNPARSABLE) -> TopicRecord:
    value = dead_letter(BadRecord(reason, "why"), Provenance("search", 0, offset, 5), b"x")
    return TopicRecord(offset, 1000 + offset, b"image-%d" % offset, value)


def append_to(records: list[TopicRecord], settlement: Settlement) -> None:
    offset = records[-1].offset + 1
    records.append(TopicRecord(offset, 1000 + offset, b"", settlement_bytes(settlement)))


def settle(records: list[TopicRecord], choice: DeadLetterChoice, crash: random.Random | None = None) -> SettlingReport:
    report = SettlingReport()

    def append(settlement: Settlement) -> None:
        if crash is not None and crash.random() < 0.3:
            raise UnavailableError("the broker is down")
        append_to(records, settlement)

    acknowledge(list(records), choice, settled_in(records), BY, append, report)
    return report


@given(
    reasons=st.lists(st.sampled_from(REASONS), min_size=1, max_size=40),
    chosen=st.sets(st.sampled_from(REASONS)),
    since=st.integers(990, 1050),
    length=st.integers(0, 60),
    replayed=st.sets(st.integers(0, 39)),
)
def test_settled_is_what_was_chosen_and_open(
    reasons: list[Reason], chosen: set[Reason], since: int, length: int, replayed: set[int]
) -> None:
    records = [record(offset, reason) for offset, reason in enumerate(reasons)]
    before = [(offset, offset) for offset in sorted(replayed) if offset < len(reasons)]
    append_to(records, Settlement(Kind.REPLAYED, "", tuple(before)))
    choice = DeadLetterChoice(chosen, since_ms=since, until_ms=since + length)
    wanted = {
        each.offset
        for each, reason in zip(records, reasons, strict=False)
        if (not chosen or reason in chosen) and since <= each.timestamp_ms < since + length
    }
    report = settle(records, choice)
    assert (report.settled, report.settled_before) == (len(wanted - replayed), len(wanted & replayed))
    settled = settled_in(records)
    acknowledged = {n for n in range(len(reasons)) if settled.kind_of(n) is Kind.ACKNOWLEDGED}
    assert acknowledged == wanted - replayed
    again = settle(records, choice)
    assert (again.settled, again.settled_before) == (0, len(wanted))
    found = group(records, DeadLetterChoice(), settled_in(records), limit=3)
    assert found.total(DeadLetterState.ACKNOWLEDGED) == len(acknowledged)
    assert found.total(DeadLetterState.OPEN) == len(reasons) - len(acknowledged | replayed & set(range(len(reasons))))
    assert all(sum(each.counts.values()) == reasons.count(reason) for reason, each in found.groups.items())


@pytest.mark.parametrize("seed", range(20))
def test_crashes_lose_no_acknowledgement(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "CHUNK", 3)
    records, crash = [record(offset) for offset in range(20)], random.Random(seed)
    while True:
        report = SettlingReport()
        try:
            report = settle(records, DeadLetterChoice(), crash)
        except UnavailableError:
            continue
        if report.settled_before == 20:
            break
    ranges = [each for one in records if (found := parse_settlement(one.value)) for each in found.ranges]
    assert [n for first, last in ranges for n in range(first, last + 1)] == list(range(20))  # each once


def test_an_acknowledgement_says_who_and_why() -> None:
    records = [record(0), record(1)]
    settle(records, DeadLetterChoice(offsets={1}))
    found = parse_settlement(records[-1].value)
    assert found == Settlement(Kind.ACKNOWLEDGED, "1 settled by hand", ((1, 1),), "anna", "a test")


@pytest.mark.parametrize(("author", "reason"), [("", "x"), ("x", " "), ("x", "y" * 1001)])
def test_author_and_reason_are_needed(author: str, reason: str) -> None:
    with pytest.raises(BadInputError, match="characters"):
        Acknowledgement(author, reason)


def test_groups_keep_the_newest_of_each_reason_and_no_more() -> None:
    records = [record(n, REASONS[n % 2]) for n in range(100)]
    records += [TopicRecord(100, 1100, b"", b"junk")]
    append_to(records, Settlement(Kind.ACKNOWLEDGED, "", ((0, 0),), "a", "b"))
    found = group(
        records, DeadLetterChoice(), settled_in(records), lambda state: state is DeadLetterState.OPEN, limit=2
    )
    assert [one.record.offset for one in found.groups[Reason.UNPARSABLE].newest] == [96, 98]
    assert (found.groups[Reason.UNPARSABLE].oldest_open_ms, found.groups[Reason.UNPARSABLE].newest_ms) == (1002, 1098)
    assert (found.settlements, found.unreadable) == (1, 1)


def test_an_offset_without_a_dead_letter_is_named() -> None:
    records = [record(0)]
    append_to(records, Settlement(Kind.REPLAYED, "", ((0, 0),)))
    checked_offsets(records, frozenset({0}))
    with pytest.raises(BadInputError, match="no dead letter at 1, 7"):
        checked_offsets(records, frozenset({0, 7, 1}))
