"""Filters of traces, and finding the newest: the same as looking at every trace, without reading all of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import BadInputError
from core.traces import Choice, Trace, TracedStep, TraceKind, TraceReason, Why, trace_json
from core.types import Cause, Outcome
from stream.topic_reader import TopicRecord
from stream.traces import reading
from stream.traces.choice import TraceChoice, parse_slow, spent_ms
from stream.traces.reading import Unread, chosen, newest
from tests.support.fake_reader import FakeReader, FakeTopics
from tests.support.traces import sample_trace


def record(trace: Trace, offset: int = 0) -> TopicRecord:
    return TopicRecord(offset, 1_000 + offset, trace.image_id.encode(), trace_json(trace))


def takes(choice: TraceChoice, trace: Trace) -> bool:
    return choice.read(record(trace)) is not None


SAMPLE = sample_trace()
OTHER = sample_trace(
    image_id="alone",
    outcome=Outcome.REPLAYED,
    cause=Cause.FOUNDED,
    reason=TraceReason.REPLAY,
    kind=TraceKind.REPLAY,
    request_id="r-1",
    choice=Choice("alone", "harbour-1", None, None, None, Why.NO_MATCH),
    candidates=(),
    steps=(TracedStep("search", 1, 200, 1),),
    join_wait_ms=None,
    decided_at_ms=0,
)


@pytest.mark.parametrize(
    ("choice", "sample", "other"),
    [
        (TraceChoice(), True, True),
        (TraceChoice(image_ids=["alone"]), False, True),
        (TraceChoice(heads=["harbour-1"]), True, True),  # the other one had it
        (TraceChoice(heads=["alone"]), False, True),
        (TraceChoice(outcomes=["decided"]), True, False),
        (TraceChoice(causes=["founded", "kept"]), False, True),
        (TraceChoice(reasons=["flag"]), True, False),
        (TraceChoice(whys=["no_match"]), False, True),
        (TraceChoice(kinds=["replay"]), False, True),
        (TraceChoice(requests=["r-1"]), False, True),
        (TraceChoice(min_score=0.93), True, False),
        (TraceChoice(min_score=0.94), False, False),
        (TraceChoice(max_score=0.93), True, False),
        (TraceChoice(max_score=0.92), False, False),
        (TraceChoice(slower_ms={"search": 199}), False, True),
        (TraceChoice(slower_ms={"search": 9, "assign": 18}), True, False),
        (TraceChoice(slower_ms={"total": 40}), True, False),
        (TraceChoice(slower_ms={"join": 31}), False, False),
        (TraceChoice(text="crowd-4"), True, False),
        (TraceChoice(until_ms=1_000), False, False),
        (TraceChoice(until_ms=1_001), True, True),
    ],
)
def test_each_filter(choice: TraceChoice, sample: bool, other: bool) -> None:
    assert (takes(choice, SAMPLE), takes(choice, OTHER)) == (sample, other)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))
def test_a_text_is_found_whatever_its_characters(text: str) -> None:
    trace = sample_trace(choice=Choice("h", None, f"a{text}b", 0.5, None, Why.MATCHED))
    assert takes(TraceChoice(text=text), trace)
    escaped = TopicRecord(0, 0, b"", json.dumps(json.loads(trace_json(trace))).encode())
    assert TraceChoice(text=text).read(escaped) is not None


def test_a_time_that_the_trace_does_not_have() -> None:
    assert spent_ms(OTHER, "assign") is None
    assert spent_ms(OTHER, "total") is None
    assert not takes(TraceChoice(slower_ms={"assign": 0}), OTHER)


@pytest.mark.parametrize("text", ["search", "search=", "search=x", "sleep=5", "search=-1", "SEARCH=1"])
def test_what_is_no_step_time_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="--slower takes STEP=MS"):
        parse_slow(text)
    assert parse_slow("search=5") == parse_slow("search=5ms") == ("search", 5.0)


def test_what_cannot_be_read_is_counted() -> None:
    unread, later = Unread(), trace_json(SAMPLE).replace(b'"trace":1', b'"trace":2')
    records = [record(SAMPLE), TopicRecord(1, 5, b"", b"junk"), TopicRecord(2, 5, b"", later), record(OTHER, 3)]
    assert [trace.image_id for _, trace in chosen(iter(records), TraceChoice(), unread)] == ["harbour-3", "alone"]
    assert unread.count == 2
    assert unread.first.startswith("not a trace")


@given(
    images=st.lists(st.sampled_from("abc"), max_size=60),
    skipped=st.integers(0, 9),
    count=st.integers(1, 5),
    wanted=st.sampled_from("abcd"),
)
def test_the_newest_are_those_of_a_whole_reading(images: list[str], skipped: int, count: int, wanted: str) -> None:
    topics = FakeTopics({"t": [record(sample_trace(image_id=image), n + 5) for n, image in enumerate(images)]})
    source = FakeReader(topics, "t")
    first, end = source.ends()
    first += skipped
    whole = [each.offset for each in topics.records["t"] if each.offset >= first and each.key == wanted.encode()]
    before, reading.FIRST_WINDOW = reading.FIRST_WINDOW, 4
    try:
        found = newest(source, first, end, TraceChoice(image_ids=[wanted]), count, Unread())
    finally:
        reading.FIRST_WINDOW = before
    assert [each.offset for each, _ in found] == whole[-count:]


def test_a_new_trace_is_found_without_reading_the_topic() -> None:
    records = [record(sample_trace(image_id=f"image-{n % 5_000}"), n) for n in range(20_000)]
    topics = FakeTopics({"t": records})
    done: list[int] = []
    found = newest(
        FakeReader(topics, "t"), 0, 20_000, TraceChoice(image_ids=["image-4999"]), 1, Unread(), on_progress=done.append
    )
    assert [each.offset for each, _ in found] == [19_999]
    assert topics.polled == reading.FIRST_WINDOW
    assert done == [reading.FIRST_WINDOW]
