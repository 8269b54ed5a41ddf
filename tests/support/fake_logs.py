"""Kafka's embedding topics as the runner sees them, in memory: logs that grow, are cut, expire and are made anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crc32c import crc32c

from core.errors import UnavailableError
from stream.log_reads import TopicIdentity
from stream.read_marks import MarkedRecord, PartitionNow, TopicNow


@dataclass
class FakeLog:
    """One partition: (value, time in ms) of each record from offset 0 on; those before `first` are gone."""

    records: list[tuple[bytes, int]] = field(default_factory=list)
    first: int = 0
    epoch: int = 0

    @property
    def end(self) -> int:
        return len(self.records)

    def append(self, count: int, start_ms: int, tag: str = "old") -> None:
        """Records a minute apart."""
        self.records += [(f"{tag}-{self.end + i}".encode(), start_ms + 60_000 * i) for i in range(count)]

    def power_cut(self, end: int) -> None:
        """Loses what was not on disk; the broker that comes back leads in a new epoch."""
        del self.records[end:]
        self.epoch += 1

    def before(self, offset: int) -> MarkedRecord | None:
        at = offset - 1
        if not self.first <= at < self.end:
            return None
        value, time_ms = self.records[at]
        return MarkedRecord(at, crc32c(value), time_ms)


@dataclass
class FakeTopic:
    """A topic by its id."""

    topic_id: str
    partitions: dict[int, FakeLog]


class FakeLogs:
    """`stream.log_reads.Logs` over such topics."""

    def __init__(self, topics: dict[str, FakeTopic]) -> None:
        self.topics = topics
        self.commits: dict[str, dict[int, int]] = {}
        self.retention: dict[str, int] = {}

    def identity(self, topic: str) -> TopicIdentity:
        found = self._topic(topic)
        return TopicIdentity(found.topic_id, {part: log.epoch for part, log in found.partitions.items()})

    def now(self, topic: str, offsets: Mapping[int, int]) -> TopicNow:
        found = self._topic(topic)
        partitions = {
            part: PartitionNow(log.first, log.end, log.epoch, log.before(offsets[part]) if part in offsets else None)
            for part, log in found.partitions.items()
        }
        return TopicNow(found.topic_id, partitions)

    def committed(self, topic: str) -> dict[int, int]:
        return dict(self.commits.get(topic, {}))

    def commit(self, topic: str, offsets: Mapping[int, int]) -> None:
        self.commits[topic] = dict(offsets)

    def offsets_at(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, int]:
        logs = self._topic(topic).partitions
        return {
            part: next(
                (at for at in range(logs[part].first, logs[part].end) if logs[part].records[at][1] >= time_ms),
                logs[part].end,
            )
            for part, time_ms in times_ms.items()
        }

    def times_at(self, topic: str, offsets: Mapping[int, int]) -> dict[int, int]:
        logs = self._topic(topic).partitions
        return {
            part: logs[part].records[max(at, logs[part].first)][1]
            for part, at in offsets.items()
            if max(at, logs[part].first) < logs[part].end
        }

    def retention_ms(self, topic: str) -> int:
        return self.retention.get(topic, -1)

    def close(self) -> None:
        pass

    def _topic(self, topic: str) -> FakeTopic:
        if topic not in self.topics:
            raise UnavailableError(f"no topic {topic}")
        return self.topics[topic]
