"""Topics of one partition without a broker, as `TopicReader` and `Publisher` see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from core.errors import UnavailableError
from stream.topic_reader import TopicRecord

__all__ = ["FakeTopics"]


@dataclass
class FakeTopics:
    """Some topics. What is appended gets the next offset, and a time that grows by a second."""

    records: dict[str, list[TopicRecord]] = field(default_factory=dict)
    now_ms: int = 1_700_000_000_000
    polled: int = 0
    """The records that readers have taken."""
    on_idle: Any = None
    """Called when a reader that follows a topic waits at its end."""

    def append(
        self, topic: str, value: bytes, key: bytes = b"", headers: list[tuple[str, bytes]] | None = None
    ) -> TopicRecord:
        """Appends one record."""
        records = self.records.setdefault(topic, [])
        offset = records[-1].offset + 1 if records else 0
        self.now_ms += 1_000
        records.append(TopicRecord(offset, self.now_ms, key, value, dict(headers or ())))
        return records[-1]

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Has the commands read and write these topics."""
        monkeypatch.setattr("stream.topic_reader.TopicReader", lambda access, topic: FakeReader(self, topic))
        monkeypatch.setattr("stream.publish.Publisher", lambda settings, name: FakePublisher(self))


class FakeReader:
    """Behaves as `TopicReader` does."""

    partitions = 1

    def __init__(self, topics: FakeTopics, topic: str) -> None:
        if topic not in topics.records:
            raise UnavailableError(f"Kafka has no topic {topic}: run `neardup topics create`")
        self._topics = topics
        self._records = topics.records[topic]
        self._at = self.ends()[0]

    def __enter__(self) -> FakeReader:
        return self

    def __exit__(self, *_: object) -> None: ...

    def ends(self) -> tuple[int, int]:
        """See `TopicReader.ends`."""
        return (self._records[0].offset, self._records[-1].offset + 1) if self._records else (0, 0)

    def offset_at(self, time_ms: int) -> int:
        """See `TopicReader.offset_at`."""
        return next((each.offset for each in self._records if each.timestamp_ms >= time_ms), self.ends()[1])

    def seek(self, offset: int) -> None:
        """See `TopicReader.seek`."""
        self._at = offset

    def poll(self, timeout_s: float = 1.0) -> list[TopicRecord]:
        """See `TopicReader.poll`; it never waits."""
        found = [each for each in self._records if each.offset >= self._at][:1_000]
        self._topics.polled += len(found)
        if found:
            self._at = found[-1].offset + 1
        elif self._topics.on_idle is not None:
            self._topics.on_idle()
        return found

    def last(self, count: int) -> Iterator[TopicRecord]:
        """See `TopicReader.last`."""
        first, end = self.ends()
        return self.between(max(first, end - count), end)

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        """See `TopicReader.between`."""
        for each in list(self._records):
            if at <= each.offset < end:
                self._topics.polled += 1
                yield each

    def follow(self) -> Iterator[TopicRecord]:
        """See `TopicReader.follow`."""
        while True:
            yield from self.poll()


class FakePublisher:
    """Behaves as `Publisher` does with raw records."""

    def __init__(self, topics: FakeTopics) -> None:
        self._topics = topics

    def __enter__(self) -> FakePublisher:
        return self

    def __exit__(self, *_: object) -> None: ...

    def send_raw(self, topic: str, key: bytes, value: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        """See `Publisher.send_raw`."""
        self._topics.append(topic, value, key, headers)

    def flush(self) -> None:
        """See `Publisher.flush`."""
