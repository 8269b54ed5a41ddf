"""Where in `joined` a new job begins, and when it must refuse to: the stores' positions against the log itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.errors import MismatchError
from core.types import NO_OFFSET, LogPosition

__all__ = ["Log", "starting_offset"]


@dataclass(frozen=True, slots=True)
class Log:
    """The log `joined` as the broker has it: its topic id, the first offset that is left and the next one to come."""

    topic: str
    topic_id: str
    first: int
    end: int


def starting_offset(log: Log, stores: dict[str, LogPosition], checksum_at: Callable[[int], int | None]) -> int:
    """The offset that the sequence reads first: one after the store that is least far.

    Args:
        log: What the broker has.
        stores: Position of each store, by a name for messages.
        checksum_at: CRC-32C of the record at an offset, None if it is not there.

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
            f"{slowest} needs {log.topic} from offset {start}, but its oldest record is {log.first}: "
            f"restore or rebuild {slowest}"
        )
    return start


def _check(name: str, position: LogPosition, log: Log, checksum_at: Callable[[int], int | None]) -> None:
    if position.offset == NO_OFFSET:
        return
    if position.log_id != log.topic_id:
        raise MismatchError(
            f"{name} followed the topic {position.log_id}, but {log.topic} is {log.topic_id} now: it was deleted and "
            f"made again, or `topic_prefix` has changed. Bring the old topic back, or start {name} with an empty folder"
        )
    if position.offset >= log.end:
        raise MismatchError(
            f"{name} has applied {log.topic} up to offset {position.offset}, but the log ends at {log.end - 1}: "
            f"it has lost records. Restore the topic, or {name} to an earlier state"
        )
    found = checksum_at(position.offset)
    if found is None:
        raise MismatchError(
            f"{name} stands at offset {position.offset} of {log.topic}, a record that is no longer there (the oldest "
            f"is {log.first}): restore or rebuild {name}"
        )
    if found != position.checksum:
        raise MismatchError(
            f"{name} saw a record with checksum {position.checksum:08x} at offset {position.offset} of {log.topic}, "
            f"the log has {found:08x} there: it is not the log that {name} followed"
        )
