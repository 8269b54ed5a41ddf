"""Where the sources of the embedding topics begin, given the marks of what was read and the logs as they are. Pure.

Each partition is decided by itself:

    the mark holds         goes on at its offset; without the join's state from so far back that no half is missing
    log cut                read again by time, from before the mark's record: offsets may have been given anew
    topic made anew        read from its first offset: nothing of it was read
    records expired unread a loss, which a person must accept; then from the first offset that is left

Reading records again is harmless. The join ignores halves that it knows, and the sequence versions that are placed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from core.errors import MismatchError
from stream.late_halves import settled_offsets
from stream.read_marks import Loss, MarkSet, ReadMark, Standing, TopicMarks, TopicNow, describe, standing_of
from stream.start_plan import ReadPosition, rewind_times

__all__ = ["JoinWait", "ReadPlan", "accepted", "plan_reading", "refuse_losses"]

Partition = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True, slots=True)
class JoinWait:
    """How long halves wait for each other.

    Attributes:
        wait_ms: The join's timeout, and how far its watermarks stay behind.
        idle_ms: A partition without records for so long is left out of the event time.
    """

    wait_ms: int
    idle_ms: int


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Where reading begins.

    Attributes:
        offsets: First offset of each partition, where it is known.
        times: Of the others: the time in ms from which they are read.
        settled: The offset from which they are read if that is before this time: halves from there on may wait.
        remarks: What a person should know: each log that is not the one that was read.
        losses: Records that are gone unread.
    """

    offsets: Mapping[Partition, int] = field(default_factory=dict)
    times: Mapping[Partition, int] = field(default_factory=dict)
    settled: Mapping[Partition, int] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    losses: Sequence[Loss] = ()


def plan_reading(
    sets: Sequence[MarkSet],
    now: Mapping[str, TopicNow],
    wait: JoinWait,
    *,
    join_kept: bool,
    not_after_ms: int | None = None,
) -> ReadPlan:
    """Decides for each partition that exists now.

    Args:
        sets: Marks in the order in which they were taken. The last ones say what was read; a partition without a mark
            is read from its first offset. The others say when.
        now: The logs, with the records that lie where the marked ones were.
        wait: How long halves wait.
        join_kept: Whether the join resumes from state that holds what was read before the marks.
        not_after_ms: Images that arrived from this time on are joined again: a job without the join's state reads what
            was marked from one join timeout before it at the latest. None: no such time.
    """
    offsets: dict[Partition, int] = {}
    times: dict[Partition, int] = {}
    remarks: list[str] = []
    losses: list[Loss] = []
    marks = sets[-1].topics
    rewound = rewind_times(_positions(marks, now), wait.wait_ms, wait.idle_ms)
    late = settled_offsets(sets, max(rewound.values(), default=0))
    settled: dict[Partition, int] = {}
    for topic, log in now.items():
        then = marks.get(topic, TopicMarks(log.topic_id, {}))
        for partition, ends in log.partitions.items():
            at = topic, partition
            mark, standing = then.partitions.get(partition), standing_of(then, partition, log)
            offsets[at] = ends.first
            if mark is None or standing is None:
                continue
            if standing is not Standing.KEPT:
                remarks.append(describe(topic, partition, then.topic_id, mark, log))
            if standing is Standing.EXPIRED:
                losses.append(Loss(topic, partition, mark.offset, ends.first))
            elif standing is Standing.KEPT and join_kept:
                offsets[at] = mark.offset
            elif standing is Standing.CUT and mark.record is not None and join_kept:
                times[at] = max(0, mark.record.timestamp_ms - wait.wait_ms)
            elif standing is not Standing.RECREATED and at in rewound:
                times[at], settled[at] = rewound[at], late[at]
    if not_after_ms is not None:
        times = {at: min(time_ms, max(0, not_after_ms - wait.wait_ms)) for at, time_ms in times.items()}
    return ReadPlan(offsets, times, settled, tuple(dict.fromkeys(remarks)), losses)


def _positions(marks: Mapping[str, TopicMarks], now: Mapping[str, TopicNow]) -> dict[Partition, ReadPosition]:
    """How far each marked partition was read, in Kafka's time.

    Where the time of the last record is not known and there is more to read, it may hold back all others.
    """
    positions: dict[Partition, ReadPosition] = {}
    for topic, then in marks.items():
        for partition, mark in then.partitions.items():
            ends = now[topic].partitions.get(partition) if topic in now else None
            behind = ends is None or standing_of(then, partition, now[topic]) is not Standing.KEPT
            behind = behind or (ends is not None and mark.offset < ends.end)
            if mark.record is not None:
                positions[topic, partition] = ReadPosition(mark.record.timestamp_ms, behind, mark.idle_ms)
            elif behind:
                positions[topic, partition] = ReadPosition(0, behind=True)
    return positions


def refuse_losses(losses: Sequence[Loss]) -> None:
    """Refuses to go on while records are gone that nobody has given up.

    Raises:
        MismatchError: There are losses; it has the offsets of each, and what to do.
    """
    if not losses:
        return
    found = "; ".join(
        f"{loss.topic} partition {loss.partition} was read up to offset {loss.first}, but its oldest record is "
        f"{loss.end} ({loss.records:,} records)"
        for loss in losses
    )
    raise MismatchError(
        f"records were deleted before they were read: {found}. `neardup job start --accept-loss` goes on without "
        "them and writes them to `dead-letter`; send their images again"
    )


def accepted(marks: MarkSet, losses: Sequence[Loss]) -> MarkSet:
    """The marks once these losses are accepted: reading goes on behind them."""
    moved = {(loss.topic, loss.partition): loss.end for loss in losses}

    def behind(topic: str, partition: int, mark: ReadMark) -> ReadMark:
        end = moved.get((topic, partition), 0)
        return mark if end <= mark.offset else ReadMark(end, None, mark.leader_epoch)

    return replace(
        marks,
        topics={
            topic: replace(then, partitions={part: behind(topic, part, mark) for part, mark in then.partitions.items()})
            for topic, then in marks.topics.items()
        },
    )
