"""Marks of how far the embedding topics were read, and what became of the logs since.

An offset alone does not name a record. A broker that lost records gives their offsets to new ones, and a topic that was
made anew begins at 0. A mark therefore holds the topic id, the offset, and checksum and time of the record before it.
`compare` tells whether the log that the broker has now is still the one that was read. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = [
    "Loss",
    "MarkSet",
    "MarkedRecord",
    "PartitionNow",
    "ReadMark",
    "Standing",
    "TopicMarks",
    "TopicNow",
    "compare",
    "problems",
]


@dataclass(frozen=True, slots=True)
class MarkedRecord:
    """One record: its offset, the CRC-32C of its value, and Kafka's timestamp in ms."""

    offset: int
    checksum: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class ReadMark:
    """How far one partition was read.

    Attributes:
        offset: The first offset that was not read.
        record: The last record before it; None if nothing was before it, or it was gone already.
        leader_epoch: Kafka's count of the partition's leaders. It rises with each start of a broker.
        idle_ms: For how long the job has stood at this offset, at the end of the log, without a restart.
    """

    offset: int
    record: MarkedRecord | None = None
    leader_epoch: int = -1
    idle_ms: int = 0


@dataclass(frozen=True, slots=True)
class TopicMarks:
    """The marks of one topic, by partition, and Kafka's id of the topic that they are of."""

    topic_id: str
    partitions: Mapping[int, ReadMark]


@dataclass(frozen=True, slots=True)
class MarkSet:
    """The marks of all embedding topics at one checkpoint of one job.

    The join's state in checkpoint `checkpoint`, and in each later one of the job, holds what was read before the marks.

    Attributes:
        job_id: Flink's id of the job.
        checkpoint: The newest complete checkpoint when the marks were taken; 0: the marks that the job began at.
        state_format: The format of the job's state.
        taken_ms: When.
        restored_ms: When Flink itself had last restored the job; None if that is not known yet.
        savepoint: The name of the savepoint that ended the job, "" while it goes on.
        log_id: Kafka's id of the topic that the job writes the order to; "" if that is not known.
        replay_id: Kafka's id of the topic that the job reads replays from; "" if that is not known.
        reached_ms: The time of the newest record in the marks that these took the place of (`stream.late_halves`).
        topics: By topic name.
    """

    job_id: str
    checkpoint: int
    state_format: int
    taken_ms: int
    topics: Mapping[str, TopicMarks] = field(default_factory=dict)
    restored_ms: int | None = None
    savepoint: str = ""
    log_id: str = ""
    reached_ms: int = 0
    replay_id: str = ""


@dataclass(frozen=True, slots=True)
class PartitionNow:
    """One partition as the broker has it.

    Attributes:
        first: Its first offset.
        end: The offset that the next record gets.
        leader_epoch: Kafka's count of its leaders.
        record: What lies where a mark's record was.
        readable: Whether that can be read; damage on the broker's disk says nothing about the log's identity.
    """

    first: int
    end: int
    leader_epoch: int = -1
    record: MarkedRecord | None = None
    readable: bool = True


@dataclass(frozen=True, slots=True)
class TopicNow:
    """One topic as the broker has it."""

    topic_id: str
    partitions: Mapping[int, PartitionNow]


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that Kafka deleted before they were read: offsets `first` to `end - 1`."""

    topic: str
    partition: int
    first: int
    end: int

    @property
    def records(self) -> int:
        """How many offsets are gone."""
        return self.end - self.first


class Standing(StrEnum):
    """What became of the log that a mark is of."""

    KEPT = "kept"
    """The mark holds: reading goes on at its offset."""
    RECREATED = "recreated"
    """The topic was deleted and created again. Nothing of the new one was read."""
    CUT = "cut"
    """The log has lost records that were read. New ones may have their offsets."""
    EXPIRED = "expired"
    """Records at and behind the mark were deleted before they were read."""


def compare(topic_id: str, mark: ReadMark, now_id: str, now: PartitionNow) -> Standing:
    """What became of the log of one partition.

    Args:
        topic_id: The topic's id when the mark was taken.
        mark: The mark.
        now_id: The topic's id now.
        now: The partition now; `record` is what lies at the offset of the mark's record.
    """
    if topic_id != now_id:
        return Standing.RECREATED
    if now.end < mark.offset:
        return Standing.CUT
    if now.first > mark.offset:
        return Standing.EXPIRED
    gone = mark.record is None or mark.record.offset < now.first or not now.readable
    return Standing.KEPT if gone or mark.record == now.record else Standing.CUT


def problems(marks: Mapping[str, TopicMarks], now: Mapping[str, TopicNow]) -> list[str]:
    """One sentence for each partition whose mark does not hold, with the value of the mark and the value found."""
    return [
        describe(topic, partition, then.topic_id, mark, now[topic])
        for topic, then in marks.items()
        for partition, mark in then.partitions.items()
        if (standing := standing_of(then, partition, now[topic])) is not None and standing is not Standing.KEPT
    ]


def standing_of(then: TopicMarks, partition: int, now: TopicNow) -> Standing | None:
    """What became of one partition; None if it has no mark, or if the broker that answered does not know it yet."""
    mark = then.partitions.get(partition)
    if mark is None:
        return None
    if partition not in now.partitions:
        return Standing.RECREATED if then.topic_id != now.topic_id else None
    return compare(then.topic_id, mark, now.topic_id, now.partitions[partition])


def describe(topic: str, partition: int, topic_id: str, mark: ReadMark, now: TopicNow) -> str:
    """What does not fit between a mark and the log, with both values."""
    where = f"{topic} partition {partition}"
    found = now.partitions.get(partition)
    if topic_id != now.topic_id or found is None:
        return f"{topic} was the topic {topic_id} and is {now.topic_id} now: it was deleted and created again"
    if found.end < mark.offset:
        return f"{where} was read up to offset {mark.offset}, but the log ends at {found.end}: it has lost records"
    if found.first > mark.offset:
        lost = found.first - mark.offset
        return (
            f"{where} was read up to offset {mark.offset}, but its oldest record is {found.first}: "
            f"{lost:,} records were deleted before they were read"
        )
    if mark.record is None:
        return f"{where} has changed"
    return (
        f"{where} held {_record(mark.record)} at offset {mark.record.offset}, now it holds {_record(found.record)}: "
        "the log has lost records, and new ones have taken their offsets"
    )


def _record(record: MarkedRecord | None) -> str:
    return "no record" if record is None else f"checksum {record.checksum:08x} of time {record.timestamp_ms}"
