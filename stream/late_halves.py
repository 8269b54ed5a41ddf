"""Which offsets lie behind all halves that may still wait in the join, also those that came late. Pure.

A half waits one timeout from its own time, or from the join's event time if that is later. So a half of a partition
that was out of reach, and was left out of the event time, may wait although its time is long past. What counts is when
it was read:

    marks ------ s ---------------------------- now
                 event time here, at most       event time is at least one timeout further:
                 that of the newest record      what was read before `s` has expired

Reading can go back between two sets of marks, after a cut or a rewind. So the answer is the lowest offset of all sets
from `s` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stream.read_marks import MarkSet, ReadMark

__all__ = ["HISTORY_SETS", "following", "settled_offsets", "thinned"]

HISTORY_SETS = 24
"""Older sets that are kept. They are the sparser, the older they are."""


def following(before: MarkSet | None, marks: MarkSet) -> MarkSet:
    """The next marks. Where reading went back, they say how far it had come: its checkpoints may be restored yet.

    So the newest times of all sets ascend, and a set can be left out.
    """
    reached_ms = 0 if before is None else _newest_ms(before)
    return replace(marks, reached_ms=reached_ms) if reached_ms > _newest_ms(marks) else marks


def thinned(older: Sequence[MarkSet]) -> tuple[MarkSet, ...]:
    """Fewer sets from which `settled_offsets` answers the same, or goes back further.

    Args:
        older: In the order in which they were taken; all but the last are what this returned before.
    """
    kept: list[MarkSet] = []
    for each in older:
        while kept and _goes_back(kept[-1], each):
            kept.pop()
        kept.append(each)
    return tuple(kept if len(kept) <= HISTORY_SETS else kept[::2])


def settled_offsets(sets: Sequence[MarkSet], expired_ms: int) -> dict[tuple[str, int], int]:
    """Below these offsets no half waits any more, by topic and partition; empty if nothing is known.

    Args:
        sets: In the order in which they were taken. The last one says how far the join has read.
        expired_ms: One timeout before the event time of the last one, or earlier.
    """
    later = (number for number, each in enumerate(sets) if _newest_ms(each) > expired_ms)
    since = max(0, next(later, len(sets)) - 1)
    lowest: dict[tuple[str, int], int] = {}
    for topic, then in sets[-1].topics.items() if sets else ():
        for partition in then.partitions:
            offsets = [_offset(each, topic, partition, then.topic_id) for each in sets[since:]]
            lowest[topic, partition] = min(offsets)
    return lowest


def _newest_ms(marks: MarkSet) -> int:
    """The time of the newest record that was read: event time was no later."""

    def time_ms(mark: ReadMark) -> int:
        if mark.record is not None:
            return mark.record.timestamp_ms
        # Of a record that has expired it is only known that it was there before the mark.
        return marks.taken_ms if mark.offset else 0

    times = [time_ms(mark) for then in marks.topics.values() for mark in then.partitions.values()]
    return max([marks.reached_ms, *times])


def _offset(marks: MarkSet, topic: str, partition: int, topic_id: str) -> int:
    """The offset of a mark; 0 if the partition was not there, or was one of another topic."""
    then = marks.topics.get(topic)
    if then is None or then.topic_id != topic_id or partition not in then.partitions:
        return 0
    return then.partitions[partition].offset


def _goes_back(before: MarkSet, after: MarkSet) -> bool:
    return any(
        topic in before.topics and mark.offset < _offset(before, topic, partition, then.topic_id)
        for topic, then in after.topics.items()
        for partition, mark in then.partitions.items()
    )
