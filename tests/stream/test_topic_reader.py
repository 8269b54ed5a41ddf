"""Reading up to an offset ends: with the records, or with an error if the broker is gone."""

from __future__ import annotations

from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import UnavailableError
from stream import topic_reader
from stream.kafka_access import KafkaAccess
from stream.topic_reader import TopicReader
from tests.support.clock import FakeClock

Taken = namedtuple("Taken", "offset timestamp key value headers")


class Consumer:
    """A consumer whose broker answers with what a test has prepared, then with nothing."""

    def __init__(self, clock: FakeClock) -> None:
        self.answers: list[list[int]] = []
        self.at = 0
        self._clock = clock

    def __call__(self, **options: Any) -> Consumer:
        return self

    def partitions_for_topic(self, topic: str) -> set[int]:
        return {0}

    def assign(self, where: Any) -> None: ...

    def seek_to_beginning(self, where: Any) -> None: ...

    def close(self, autocommit: bool) -> None: ...

    def seek(self, where: Any, offset: int) -> None:
        self.at = offset

    def position(self, where: Any) -> int:
        return self.at

    def poll(self, timeout_ms: int) -> dict[Any, list[Taken]]:
        self._clock.advance(timeout_ms)
        offsets = self.answers.pop(0) if self.answers else []
        if offsets:
            self.at = offsets[-1] + 1
        where = topic_reader.TopicPartition("debug", 0)
        return {where: [Taken(offset, 1, b"", b"", ()) for offset in offsets]}


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    clock = FakeClock()
    consumer = Consumer(clock)
    monkeypatch.setattr(topic_reader, "KafkaConsumer", consumer)
    monkeypatch.setattr(topic_reader, "time", SimpleNamespace(monotonic=lambda: clock() / 1000))
    return consumer


def reader() -> TopicReader:
    return TopicReader(KafkaAccess("127.0.0.1:9", "test"), "debug")


def test_pauses_are_waited_out(consumer: Consumer) -> None:
    consumer.answers = [[0, 1], *[[]] * 20, [2], *[[]] * 20, [3]]
    with reader() as topic:
        assert [record.offset for record in topic.between(0, 4)] == [0, 1, 2, 3]


def test_a_broker_that_is_gone_is_an_error_and_no_endless_wait(consumer: Consumer) -> None:
    consumer.answers = [[0, 1]]
    with reader() as topic:
        records = topic.between(0, 4)
        assert [next(records).offset, next(records).offset] == [0, 1]
        with pytest.raises(UnavailableError, match=r"no record came for 30 s, at offset 2 of 4"):
            next(records)
