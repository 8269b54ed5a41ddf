"""What the runner asks Kafka about the embedding topics: identity, ends, single records, the job's offsets."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from crc32c import crc32c
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import CorruptRecordError, KafkaError

from core.errors import UnavailableError
from stream.broker import METADATA_MS, Broker
from stream.kafka_access import KafkaAccess
from stream.read_marks import MarkedRecord, PartitionNow, TopicNow

__all__ = ["KafkaLogs", "Logs", "TopicIdentity"]

_BACK = 8
"""How many offsets before a mark are searched for its record. Ends of transactions take offsets without a record."""

_FETCH_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """Kafka's id of a topic, and the leader epoch of each partition."""

    topic_id: str
    leader_epochs: Mapping[int, int]


class Logs(Protocol):
    """The topics as the runner sees them. Every call raises `UnavailableError` if Kafka does not answer."""

    def identity(self, topic: str) -> TopicIdentity:
        """Topic id and leader epochs."""
        ...

    def now(self, topic: str, offsets: Mapping[int, int]) -> TopicNow:
        """Ends of every partition, and the last record before each of the offsets, by partition."""
        ...

    def committed(self, topic: str) -> dict[int, int]:
        """The offsets that the job has committed, by partition."""
        ...

    def commit(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Sets the job's committed offsets; the job must not run."""
        ...

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        """The first offset at or after a time, by partition."""
        ...

    def times_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
        """The time of the first record at or after each offset, by partition; none where there is no such record."""
        ...

    def retention_ms(self, topic: str) -> int:
        """For how long the topic keeps records; -1: for ever."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...


class KafkaLogs:
    """`Logs` over one connection."""

    def __init__(self, access: KafkaAccess, group: str, timeout_ms: int = 10_000) -> None:
        """Connects.

        Args:
            access: How to reach Kafka.
            group: The consumer group of the job's sources.
            timeout_ms: The longest wait for records.

        Raises:
            UnavailableError: No broker answers, or it refuses the client.
        """
        self._where = f"Kafka at {access.bootstrap}"
        self._group = group
        self._timeout_ms = timeout_ms
        self._broker = Broker(access, timeout_ms)
        self._access = access
        try:
            self._consumer = self._new_consumer()
        except KafkaError as error:
            self._broker.close()
            raise self._unavailable(error) from error

    def identity(self, topic: str) -> TopicIdentity:
        """See `Logs`."""
        return TopicIdentity(*self._broker.leader_epochs(topic))

    def now(self, topic: str, offsets: Mapping[int, int]) -> TopicNow:
        """See `Logs`."""
        identity, ends = self.identity(topic), self._broker.ends(topic)
        wanted = {part: at for part, at in offsets.items() if part in ends and ends[part].first < at <= ends[part].end}
        found = self._read(topic, {part: (max(ends[part].first, at - _BACK), at) for part, at in wanted.items()})
        last = {
            part: next((each for each in reversed(records or []) if each.offset < wanted[part]), None)
            for part, records in found.items()
        }
        partitions = {
            part: PartitionNow(
                each.first,
                each.end,
                identity.leader_epochs.get(part, -1),
                None if (record := last.get(part)) is None else _marked(record),
                readable=found.get(part, []) is not None,
            )
            for part, each in ends.items()
        }
        return TopicNow(identity.topic_id, partitions)

    def committed(self, topic: str) -> dict[int, int]:
        """See `Logs`."""
        return self._broker.committed(self._group, topic)

    def commit(self, topic: str, offsets: Mapping[int, int]) -> None:
        """See `Logs`."""
        self._broker.commit(self._group, topic, offsets)

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        """See `Logs`."""
        return self._broker.offsets_at(topic, times_ms) if times_ms else {}

    def times_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
        """See `Logs`."""
        ends = self._broker.ends(topic)
        wanted = {
            part: (max(at, ends[part].first), max(at, ends[part].first) + 1)
            for part, at in offsets.items()
            if part in ends and max(at, ends[part].first) < ends[part].end
        }
        found = self._read(topic, wanted)
        return {part: int(records[0].timestamp) for part, records in found.items() if records}

    def retention_ms(self, topic: str) -> int:
        """See `Logs`."""
        return int(self._broker.topic_state(topic).configs.get("retention.ms", "-1"))

    def close(self) -> None:
        """See `Logs`."""
        with suppress(KafkaError):  # what is broken cannot always be closed, and is given up all the same
            self._consumer.close(autocommit=False)
        with suppress(KafkaError):
            self._broker.close()

    def _new_consumer(self) -> KafkaConsumer:
        # Few bytes of each partition: one record is wanted, not what follows it.
        return KafkaConsumer(
            **self._access.python_options(),
            enable_auto_commit=False,
            auto_offset_reset="none",
            metadata_max_age_ms=METADATA_MS,
            request_timeout_ms=max(self._timeout_ms, 11_000),
            max_partition_fetch_bytes=_FETCH_BYTES,
        )

    def _read(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, list[ConsumerRecord] | None]:
        """The records from an offset to another, by partition; more may follow them. None: they are damaged."""
        if not ranges:
            return {}
        try:
            return dict(self._read_intact(topic, ranges))
        except CorruptRecordError:
            # A consumer that met a damaged batch is of no more use.
            self._consumer.close(autocommit=False)
            self._consumer = self._new_consumer()
            if len(ranges) == 1:
                return dict.fromkeys(ranges)
            return {part: self._read(topic, {part: each})[part] for part, each in ranges.items()}
        except KafkaError as error:
            raise self._unavailable(error) from error

    def _read_intact(self, topic: str, ranges: Mapping[int, tuple[int, int]]) -> dict[int, list[ConsumerRecord]]:
        left = {TopicPartition(topic, part): until for part, (_, until) in ranges.items()}
        found: dict[int, list[ConsumerRecord]] = {part: [] for part in ranges}
        deadline = time.monotonic() + self._timeout_ms / 1000
        self._consumer.assign(list(left))
        self._consumer.resume(*left)  # a partition that is assigned again stays paused
        for part, (start, _) in ranges.items():
            self._consumer.seek(TopicPartition(topic, part), start)
        while left:
            for where, records in self._consumer.poll(timeout_ms=200).items():
                found[where.partition] += records
            done = [where for where, until in left.items() if self._consumer.position(where) >= until]
            for where in done:
                del left[where]
                self._consumer.pause(where)
            if left and time.monotonic() > deadline:
                raise UnavailableError(f"{self._where}: no records of {topic} within {self._timeout_ms / 1000} s")
        return found

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"{self._where}: {error or type(error).__name__}")


def _marked(record: ConsumerRecord) -> MarkedRecord:
    return MarkedRecord(record.offset, crc32c(record.value or b""), int(record.timestamp))
