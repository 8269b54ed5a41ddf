"""Reading a topic of one partition outside of Flink: its last records, or every new one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from core.errors import UnavailableError
from stream.kafka_access import KafkaAccess
from stream.kafka_codecs import read_all_codecs

__all__ = ["STALLED_S", "TopicReader", "TopicRecord"]

STALLED_S = 30.0
"""How long reading up to an offset goes without a record."""


@dataclass(frozen=True, slots=True)
class TopicRecord:
    """One record; `timestamp_ms` is when the broker wrote it."""

    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)


class TopicReader:
    """Reads one topic without a consumer group; use it as a context manager."""

    def __init__(self, access: KafkaAccess, topic: str, *, partition: int = 0, timeout_ms: int = 10_000) -> None:
        """Connects to one partition; the position is its first record.

        Raises:
            UnavailableError: No broker answers there, it refuses the client, or the topic does not exist.
        """
        self._where = TopicPartition(topic, partition)
        self._name = f"{topic} at {access.bootstrap}"
        self._timeout_ms = timeout_ms
        read_all_codecs()
        try:
            self._consumer = KafkaConsumer(
                **access.python_options(),
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                request_timeout_ms=max(timeout_ms, 11_000),
                max_poll_records=1_000,
            )
            partitions = self._consumer.partitions_for_topic(topic)
            if not partitions:
                self._consumer.close()
                raise UnavailableError(f"Kafka at {access.bootstrap} has no topic {topic}: run `neardup topics create`")
            self.partitions = len(partitions)
            """How many the topic has."""
            self._consumer.assign([self._where])
            self._consumer.seek_to_beginning(self._where)
        except KafkaError as error:
            raise UnavailableError(f"Kafka at {access.bootstrap}: {error or type(error).__name__}") from error

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close(autocommit=False)

    def ends(self) -> tuple[int, int]:
        """The first offset that is left, and the one that the next record will get."""
        try:
            first = self._consumer.beginning_offsets([self._where], timeout_ms=self._timeout_ms)[self._where]
            end = self._consumer.end_offsets([self._where], timeout_ms=self._timeout_ms)[self._where]
        except KafkaError as error:
            raise UnavailableError(f"{self._name}: {error or type(error).__name__}") from error
        return first, end

    def offset_at(self, time_ms: int) -> int:
        """The first record that the broker wrote at this time (ms since the epoch) or later; the end if there is none.

        Raises:
            UnavailableError: The topic cannot be read.
        """
        try:
            found = self._consumer.offsets_for_times({self._where: time_ms}, timeout_ms=self._timeout_ms)[self._where]
        except KafkaError as error:
            raise UnavailableError(f"{self._name}: {error or type(error).__name__}") from error
        return self.ends()[1] if found is None else int(found.offset)

    def seek(self, offset: int) -> None:
        """Sets the position to an offset."""
        self._consumer.seek(self._where, offset)

    def poll(self, timeout_s: float = 1.0) -> list[TopicRecord]:
        """The next records, up to a thousand; empty if none arrived in time.

        Raises:
            UnavailableError: The topic cannot be read.
        """
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000)).get(self._where, [])
        except KafkaError as error:
            raise UnavailableError(f"{self._name}: {error or type(error).__name__}") from error
        return [
            TopicRecord(
                each.offset,
                int(each.timestamp),
                bytes(each.key or b""),
                bytes(each.value or b""),
                {name: bytes(value or b"") for name, value in each.headers},
            )
            for each in found
        ]

    def last(self, count: int) -> Iterator[TopicRecord]:
        """The last records at this moment, at most `count`, oldest first."""
        first, end = self.ends()
        return self.between(max(first, end - count), end)

    def between(self, at: int, end: int) -> Iterator[TopicRecord]:
        """The records from an offset on that lie before another, in order.

        Raises:
            UnavailableError: The topic cannot be read, or its broker has not answered for `STALLED_S`.
        """
        self.seek(at)
        moved_s = time.monotonic()
        while at < end:
            for record in self.poll():
                if record.offset >= end:
                    return
                yield record
            # The position passes the markers of transactions, which are no records.
            before, at = at, self._consumer.position(self._where)
            now_s = time.monotonic()
            if at != before:
                moved_s = now_s
            elif now_s - moved_s >= STALLED_S:  # the consumer itself waits for a broker without end
                raise UnavailableError(
                    f"{self._name}: no record came for {STALLED_S:.0f} s, at offset {at} of {end}; try again when the "
                    "broker answers"
                )

    def follow(self) -> Iterator[TopicRecord]:
        """Every record from the position on, without end."""
        while True:
            yield from self.poll()
