"""A topic of one partition, without a broker: it loses its end, expires, and is made anew when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from core.errors import UnavailableError
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView


@dataclass(frozen=True)
class FakeView:
    """See `TopicView`."""

    topic_id: str
    first: int
    end: int
    partitions: int
    values: Sequence[bytes]
    damaged: bool

    def records(self, start: int, end: int) -> Sequence[tuple[int, bytes]] | None:
        """See `TopicView.records`."""
        if self.damaged:
            return None
        start, end = max(start, self.first), min(end, self.end)
        return [(offset, self.values[offset]) for offset in range(start, end)]


class FakeTopic:
    """Takes messages until it is told to fail: senders break off after some of a chunk."""

    def __init__(self, failures: Sequence[int | None] = ()) -> None:
        self.records: list[Message] = []
        """By offset; also those that retention has removed."""
        self.first = 0
        self.topic_id = "one"
        self.partitions = 1
        self.damaged = False
        self.opened = self.closed = self.looks = 0
        self.failures = iter(failures)
        self.arrived = threading.Condition()
        self.down = False

    def open(self) -> FakeSender:
        """Connects."""
        if self.down:
            raise UnavailableError("nobody there")
        self.opened += 1
        return FakeSender(self)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Waits for messages until a condition holds."""
        with self.arrived:
            assert self.arrived.wait_for(condition, 5), self.numbers

    def lose(self, kept: int) -> None:
        """A power cut: messages from an offset on are gone."""
        del self.records[kept:]

    def make_anew(self) -> None:
        """The topic is deleted and created again."""
        self.records, self.first, self.topic_id = [], 0, self.topic_id + "+"

    @property
    def numbers(self) -> list[int]:
        """The numbers of all messages, by offset."""
        return [one.number for one in self.records]


class FakeSender:
    """Behaves as `KafkaSender` does."""

    def __init__(self, topic: FakeTopic) -> None:
        self._topic = topic
        self._broken = False
        self._next = 0

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        """See `Sender.send`."""
        assert not self._broken, "a sender that failed is of no more use"
        topic = self._topic
        taken = next(topic.failures, None)
        with topic.arrived:
            start = len(topic.records)
            topic.records += messages if taken is None else messages[:taken]
            topic.arrived.notify_all()
        self._broken = taken is not None or start < self._next
        if self._broken:
            raise UnavailableError("the broker went away" if taken is not None else "an offset was given again")
        self._next = len(topic.records)
        return range(start, self._next)

    @contextmanager
    def look(self) -> Iterator[TopicView]:
        """See `Sender.look`."""
        topic = self._topic
        if topic.down:
            raise UnavailableError("nobody there")
        topic.looks += 1
        self._next = len(topic.records)
        values = [record.value for record in topic.records]
        yield FakeView(topic.topic_id, topic.first, len(values), topic.partitions, values, topic.damaged)

    def close(self) -> None:
        """Counted."""
        self._topic.closed += 1
