"""Where a new job begins to read, and when it must refuse to. Pure.

In `joined` it begins where the stores are, once their positions fit the log. In the embedding topics it begins where
the halves that waited for their partner were read, unless a snapshot has them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from core.errors import MismatchError
from core.types import LogPosition

__all__ = [
    "Log",
    "ReadPosition",
    "base_of",
    "check_kinds",
    "check_released",
    "check_required",
    "only_partition",
    "replay_starts",
    "rewind_times",
    "starting_position",
]

_Partition = TypeVar("_Partition")


@dataclass(frozen=True, slots=True)
class Log:
    """The log `joined`: its topic id, its base, and the positions of its first record and of the next one to come."""

    topic: str
    topic_id: str
    first: int
    end: int
    base: int = 0
    """The position of offset 0."""

    @classmethod
    def at(cls, topic: str, topic_id: str, offsets: tuple[int, int], base: int) -> Log:
        """The log whose first and next record have these offsets in Kafka."""
        first, end = offsets
        return cls(topic, topic_id, base + first, base + end, base)


def base_of(topic_id: str, stores: Iterable[LogPosition]) -> int:
    """The position of the offset 0 of a topic, as the stores that follow it know it; 0 if none follows it."""
    return max((each.base for each in stores if each.log_id == topic_id), default=0)


def only_partition(topic: str, partitions: Mapping[int, _Partition]) -> _Partition:
    """What is known of the one partition of a topic, whose records are one order.

    Raises:
        MismatchError: It has several. Their offsets would repeat, so positions would mean nothing.
    """
    if len(partitions) != 1:
        raise MismatchError(
            f"{topic} has {len(partitions)} partitions, but its records are one order and need one: delete it while it "
            "is empty, then run `neardup topics create`"
        )
    return partitions[0]


def replay_starts(applied: Mapping[int, int], ends: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """Where each lane of the topic `replay` is read first: after the last request that storage has applied.

    Args:
        applied: The offset of that request, by partition, as far as there is one.
        ends: The first offset of each partition that is left, and the offset that the next record will get.
    """
    return {lane: min(max(applied.get(lane, -1) + 1, first), end) for lane, (first, end) in ends.items()}


def starting_position(log: Log, stores: dict[str, LogPosition], checksum_at: Callable[[int], int | None]) -> int:
    """The position that the sequence reads first: the first that one of the stores has not applied.

    Args:
        log: What the broker has.
        stores: Position of each store, by a name for messages.
        checksum_at: CRC-32C of the record at a position, None if it is not there.

    Raises:
        MismatchError: A store followed another log, is ahead of this one, saw another record at its position, or needs
            records that this log no longer has.
    """
    for name, position in stores.items():
        _check(name, position, log, checksum_at)
    slowest = min(stores, key=lambda name: stores[name].offset)
    start = stores[slowest].offset + 1
    if start < log.first:
        raise MismatchError(
            f"{slowest} needs {log.topic} from position {start}, but its oldest record is {log.first}: "
            f"restore or rebuild {slowest}"
        )
    return start


def check_kinds(server: str, taken: Collection[str], sent: Collection[str]) -> None:
    """Makes sure that a server takes every kind of record that the job sends to it.

    A server of an older release would refuse the others one by one: an image that should be deleted would stay.

    Args:
        server: Its name, for the message.
        taken: The kinds that it names.
        sent: The kinds that the job sends.

    Raises:
        MismatchError: It does not take one of them; the message has both.
    """
    unknown = [kind for kind in sent if kind not in taken]
    if unknown:
        raise MismatchError(
            f"{server} does not take the kinds of records {', '.join(unknown)} that the job sends (it names "
            f"{', '.join(taken) or 'none'}): it is of an older release. Run `neardup down`, then `neardup up`"
        )


def check_required(required: Collection[str], known: Collection[str]) -> None:
    """Makes sure that the job knows every kind of record that may lie in the order.

    It would pass the others as unreadable, and the index would skip them for ever.

    Args:
        required: The kinds that storage names.
        known: The kinds that the job knows.

    Raises:
        MismatchError: It does not know one of them; the message has both.
    """
    unknown = [kind for kind in required if kind not in known]
    if unknown:
        raise MismatchError(
            f"the order may hold records of the kinds {', '.join(unknown)}, and this release knows {', '.join(known)}: "
            f"run a job of the release that wrote them, or of a later one"
        )


def check_released(index: str, released: int, storage: LogPosition) -> None:
    """Makes sure that storage is not behind what an index has forgotten.

    An index drops what only searches up to its released position could see, and has hidden what storage held as
    unscored up to it. A storage behind that position would decide these images again, on other candidates than before,
    and might give a score to one that stays hidden. An index that is behind storage, or ahead of it with no such
    release, answers as it did before.

    Args:
        index: A name for the message.
        released: The index's released position.
        storage: Storage's position.

    Raises:
        MismatchError: Storage is behind.
    """
    if released > storage.offset:
        raise MismatchError(
            f"{index} has released the order up to position {released}, but storage stands at {storage.offset}: "
            "storage was put back to an earlier state. Put back a snapshot of the index that is as old "
            "(`neardup index restore`), or build the index with `neardup index build --from storage`"
        )


def _check(name: str, position: LogPosition, log: Log, checksum_at: Callable[[int], int | None]) -> None:
    if not position.log_id:
        return
    if position.log_id != log.topic_id:
        raise MismatchError(
            f"{name} followed the topic {position.log_id}, but {log.topic} is {log.topic_id} now: it was deleted and "
            f"created again, or `topic_prefix` has changed. Restore the old topic, or go on with this one: "
            "`neardup log renew`"
        )
    if position.base != log.base:
        raise MismatchError(
            f"{name} counts {log.topic} from position {position.base}, another store from {log.base}: rebuild the index"
        )
    if not position.began:
        return
    if position.offset >= log.end:
        raise MismatchError(
            f"{name} has applied {log.topic} up to position {position.offset}, but the log ends at {log.end - 1}: "
            "it has lost records. Restore the topic, or go on with a new one: `neardup log renew`"
        )
    if position.offset < log.first:
        # Retention has removed the record itself. What matters is whether the next one is still there.
        return
    found = checksum_at(position.offset)
    if found is None:
        raise MismatchError(
            f"{name} is at position {position.offset} of {log.topic}, where there is no record (the log holds "
            f"{log.first} to {log.end - 1}): restore or rebuild {name}"
        )
    if found != position.checksum:
        raise MismatchError(
            f"{name} saw a record with checksum {position.checksum:08x} at position {position.offset} of {log.topic}, "
            f"the log has {found:08x} there: it is not the log that {name} followed"
        )


@dataclass(frozen=True, slots=True)
class ReadPosition:
    """How far the job has read one partition."""

    timestamp_ms: int
    """Kafka's timestamp of the last record that was read."""
    behind: bool
    """Whether records come after it."""
    idle_ms: int = 0
    """For how long the running job has stood here, at the end of the log."""


def rewind_times(
    positions: Mapping[tuple[str, int], ReadPosition], wait_ms: int, idle_ms: int
) -> dict[tuple[str, int], int]:
    """The time from which each partition is read again, so that every half that may have waited comes back.

    A half waits until the join's event time is `wait_ms` past it. Event time is that of the slowest partition, except
    those that are read to their end and idle. So no partition is rewound less than the slowest.

    Flink calls a partition idle by the clock, not by its records: a job that catches up reads hours in seconds. So only
    a partition that was seen at its end for longer than `idle_ms` counts as idle.

    Args:
        positions: By topic and partition, of both topics.
        wait_ms: The join's timeout, and how far its watermarks stay behind.
        idle_ms: A partition without records for so long is left out of the event time.
    """
    active = [each.timestamp_ms for each in positions.values() if each.behind or each.idle_ms <= idle_ms]
    # If all are idle, event time is somewhere between them.
    slowest_ms = min(active or [each.timestamp_ms for each in positions.values()], default=0)
    return {at: max(0, min(each.timestamp_ms, slowest_ms) - wait_ms) for at, each in positions.items()}
