"""Reads what a topic holds, to find out whether it lost messages.

All messages of the storage server go to partition 0, so that they are one order. What others may have made of further
partitions does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import CorruptRecordError, KafkaTimeoutError, UnknownTopicOrPartitionError

from storage.serving.topic_loss import TopicView

__all__ = ["opened_topic"]


class _KafkaView:
    """See `TopicView`."""

    def __init__(self, consumer: Any, topic: str, timeout_s: float) -> None:
        self._consumer = consumer
        self._where = TopicPartition(topic, 0)
        self._timeout_s = timeout_s
        found = consumer.partitions_for_topic(topic)
        if not found:
            raise UnknownTopicOrPartitionError(f"there is no topic {topic}")
        self.partitions = len(found)
        # The client has no public call for the id; its metadata holds it.
        self.topic_id = str(consumer._client.cluster.topic_id(topic) or "")
        self.first = int(consumer.beginning_offsets([self._where])[self._where])
        self.end = int(consumer.end_offsets([self._where])[self._where])
        consumer.assign([self._where])

    def records(self, start: int, end: int) -> Sequence[tuple[int, bytes]] | None:
        """See `TopicView.records`."""
        found: list[tuple[int, bytes]] = []
        start, end = max(start, self.first), min(end, self.end)
        if start >= end:
            return found
        self._consumer.seek(self._where, start)
        until = time.monotonic() + self._timeout_s
        while self._consumer.position(self._where) < end:
            try:
                polled = self._consumer.poll(timeout_ms=100).get(self._where, [])
            except CorruptRecordError:
                return None
            found += [(each.offset, each.value or b"") for each in polled if start <= each.offset < end]
            if time.monotonic() > until:
                raise KafkaTimeoutError(f"no record within {self._timeout_s} s")
        return found


@contextmanager
def opened_topic(connection: Mapping[str, Any], topic: str, timeout_s: float) -> Iterator[TopicView]:
    """Connects, and looks at a topic as of now.

    Args:
        connection: Arguments of `KafkaConsumer`.
        topic: The topic.
        timeout_s: The longest wait for each answer.

    Raises:
        KafkaError: The broker does not answer in time, or there is no such topic.
    """
    consumer: Any = KafkaConsumer(
        **connection, enable_auto_commit=False, auto_offset_reset="none", bootstrap_timeout_ms=int(1000 * timeout_s)
    )
    try:
        yield _KafkaView(consumer, topic, timeout_s)
    finally:
        consumer.close(autocommit=False)
