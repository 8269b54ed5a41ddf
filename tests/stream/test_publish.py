"""Publishing: what lies on Kafka, the pace, and that a loss is never silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

import stream.publish as publish_module
from core.errors import BadInputError, UnavailableError
from core.notifications import Half, decode
from manifests.image_files import ImageRow, Vector
from neardup.events_pb2 import FLOAT16, EmbeddingNotification
from stream.publish import Publisher, SendSchedule, publish
from stream.settings import Settings, load_settings


class FakeFuture:
    """Acknowledged at once or later, or lost at once."""

    def __init__(self, error: BaseException | None, late: list[Callable[[], None]] | None) -> None:
        self._error = error
        self._late = late

    def add_callback(self, called: Callable[[Any], None]) -> None:
        if self._late is not None:
            self._late.append(partial(called, None))
        elif self._error is None:
            called(None)

    def add_errback(self, called: Callable[[BaseException], None]) -> None:
        if self._error is not None:
            called(self._error)


@dataclass
class FakeProducer:
    """Remembers what it was given."""

    sent: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    lose_from: int | None = None
    refuse: type[Exception] | None = None
    closed_after_s: float | None = None
    close_fails: bool = False
    late: list[Callable[[], None]] | None = None
    """Acknowledgements that wait to be called, in the order of the records, or for a flush; None: they come at once."""
    flushed: bool = False

    def send(self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]] | None = None) -> FakeFuture:
        if self.refuse is not None:
            raise self.refuse("too large")
        self.sent.append((topic, key, value))
        lost = self.lose_from is not None and len(self.sent) > self.lose_from
        return FakeFuture(KafkaTimeoutError("nobody there") if lost else None, self.late)

    def flush(self, timeout: float) -> None:
        self.flushed = True
        for acknowledge in self.late or ():
            acknowledge()

    def close(self, timeout: float) -> None:
        self.closed_after_s = timeout
        if self.close_fails:
            raise KafkaTimeoutError("some are on their way")


@dataclass
class FakeBroker:
    names: set[str]

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def topics(self) -> set[str]:
        return self.names


@pytest.fixture
def settings() -> Settings:
    return load_settings()


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    fake = FakeProducer()
    topics = {"neardup.photos.embeddings.search", "neardup.photos.embeddings.score"}
    monkeypatch.setattr(publish_module, "Broker", lambda *_: FakeBroker(topics))
    monkeypatch.setattr(publish_module, "producer", lambda *_: fake)
    return fake


def row(image_id: str = "näme/1", version: int = 3) -> ImageRow:
    return ImageRow(image_id, version, 1234, Vector(FLOAT16, b"\x00\x3c" * 1280), Vector(FLOAT16, b"\x00\x40" * 768))


def test_both_halves_go_out_keyed_by_id_and_pass_the_decoder(settings: Settings, producer: FakeProducer) -> None:
    with Publisher(settings) as publisher:
        assert publish([row()], publisher) == 1
    assert [(topic, key) for topic, key, _ in producer.sent] == [
        ("neardup.photos.embeddings.search", "näme/1".encode()),
        ("neardup.photos.embeddings.score", "näme/1".encode()),
    ]
    signal = settings.signals["photos"]
    for (_, _, value), embedding in zip(producer.sent, (signal.search_embedding, signal.score_embedding), strict=True):
        half = decode(value, embedding)
        assert isinstance(half, Half)
        assert (half.image_id, half.version, half.created_at_ms) == ("näme/1", 3, 1234)


@pytest.mark.parametrize("trace", [False, True])
def test_images_ask_for_a_trace_if_they_are_told_to(settings: Settings, producer: FakeProducer, trace: bool) -> None:
    with Publisher(settings) as publisher:
        publish([row()], publisher, trace=trace)
    assert [EmbeddingNotification.FromString(value).trace for _, _, value in producer.sent] == [trace, trace]


def test_equal_rows_give_equal_bytes(settings: Settings, producer: FakeProducer) -> None:
    with Publisher(settings) as publisher:
        publish([row(), row()], publisher)
    assert producer.sent[:2] == producer.sent[2:]


def test_progress_counts_images(settings: Settings, producer: FakeProducer) -> None:
    counts: list[int] = []
    with Publisher(settings) as publisher:
        publish([row(str(n)) for n in range(3)], publisher, on_sent=counts.append)
    assert counts == [1, 2, 3]


def test_only_images_whose_halves_are_both_acknowledged_count(settings: Settings, producer: FakeProducer) -> None:
    producer.lose_from = 5  # of the third image the second half
    with pytest.raises(UnavailableError), Publisher(settings) as publisher:
        publish([row(str(n)) for n in range(4)], publisher)
    assert publisher.acknowledged == 2


def test_acknowledgements_that_come_in_any_order_count_from_the_first_image_on(
    settings: Settings, producer: FakeProducer
) -> None:
    producer.late = []
    with Publisher(settings) as publisher:
        for number in range(3):
            publisher.send(row(str(number)))
        publisher.send_raw("neardup.photos.dead-letter", b"", b"no half")
        counts = []
        for half in (5, 2, 0, 6, 3, 1, 4):
            producer.late[half]()
            counts.append(publisher.acknowledged)
    assert counts == [0, 0, 0, 0, 0, 2, 3]


def test_the_rows_before_a_broken_one_are_acknowledged_when_it_is_told(
    settings: Settings, producer: FakeProducer
) -> None:
    def rows() -> Iterator[ImageRow]:
        yield from (row(str(n)) for n in range(7))
        raise BadInputError("row 7 is broken")

    producer.late = []
    with pytest.raises(BadInputError, match="row 7"), Publisher(settings) as publisher:
        publish(rows(), publisher)
    assert producer.flushed
    assert publisher.acknowledged == 7


def test_a_lost_record_fails_the_whole(settings: Settings, producer: FakeProducer) -> None:
    producer.lose_from = 5
    with pytest.raises(UnavailableError, match="nobody there"), Publisher(settings) as publisher:
        publish([row(str(n)) for n in range(3)], publisher)
    assert producer.closed_after_s == 0


def test_closing_hides_no_other_error(settings: Settings, producer: FakeProducer) -> None:
    producer.close_fails = True
    with pytest.raises(KeyboardInterrupt), Publisher(settings):
        raise KeyboardInterrupt
    assert producer.closed_after_s == 0


def test_records_still_on_their_way_at_the_end_are_an_error(settings: Settings, producer: FakeProducer) -> None:
    producer.close_fails = True
    with pytest.raises(UnavailableError, match="on their way"), Publisher(settings) as publisher:
        publisher.send(row())


def test_a_record_that_cannot_be_sent_is_named(settings: Settings, producer: FakeProducer) -> None:
    producer.refuse = MessageSizeTooLargeError
    with pytest.raises(BadInputError, match=r"embeddings\.search"), Publisher(settings) as publisher:
        publisher.send(row())


def test_a_broker_that_is_away_for_too_long_is_no_fault_of_the_record(
    settings: Settings, producer: FakeProducer
) -> None:
    producer.refuse = KafkaTimeoutError
    with pytest.raises(UnavailableError, match="Kafka does not take records"), Publisher(settings) as publisher:
        publisher.send(row())


def test_missing_topics_are_named_before_anything_is_sent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish_module, "Broker", lambda *_: FakeBroker({"neardup.photos.embeddings.score"}))
    with pytest.raises(
        UnavailableError, match=r"no topic neardup\.photos\.embeddings\.search: run `neardup topics create`"
    ):
        Publisher(settings)


def test_pace_is_kept_and_caught_up() -> None:
    """At 10 a second; the fourth item comes late by itself, the fifth and sixth follow at once.

    t (s)   0.0   0.1   0.2  |busy|  0.5  0.5  0.5   0.6
    """
    now = 0.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(round(seconds, 6))
        now += seconds

    pace = SendSchedule(10, clock=lambda: now, sleep=sleep)
    for _ in range(3):
        pace.wait()
    assert slept == [0.1, 0.1]
    now = 0.5
    for _ in range(3):
        pace.wait()
    assert slept == [0.1, 0.1]
    pace.wait()
    assert slept == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("rate", [0, -1, 1e-30, float("nan")])
def test_a_rate_must_be_above_zero(rate: float) -> None:
    with pytest.raises(BadInputError, match="rate"):
        SendSchedule(rate)
