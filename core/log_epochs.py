"""From one log epoch to the next: the topic of the order may be lost or moved, positions go on.

A log epoch is one topic `joined` and its base, the position of its offset 0. Both stores keep the epoch that they
follow. A new epoch begins one after the last position applied, so no position is ever used twice.
"""

from __future__ import annotations

from core.errors import LogGapError, MismatchError
from core.types import LogPosition

__all__ = ["check_base", "renewed"]


def check_base(position: LogPosition, log_id: str, base: int) -> None:
    """Makes sure that a store and a job count one topic alike. Another topic is refused elsewhere.

    A store that began with a manifest while the job ran counts on from there. To it, the job's next positions would be
    those of the manifest, which were applied long ago.

    Args:
        position: Of the store.
        log_id: The id of the topic that the job reads.
        base: The position of its offset 0, as the job counts.

    Raises:
        LogGapError: They do not.
    """
    if position.log_id == log_id and position.base != base:
        raise LogGapError(
            f"the log {log_id} begins at position {position.base}, and the job counts from {base}", position.offset + 1
        )


def renewed(position: LogPosition, log_id: str, base: int) -> LogPosition:
    """The position after a change to another log epoch. A repeated change changes nothing.

    Args:
        position: The position of a store.
        log_id: The id of the new topic.
        base: The position of its offset 0.

    Raises:
        MismatchError: The epoch does not begin one after the position.
    """
    if base != position.offset + 1:
        raise MismatchError(
            f"the last position applied is {position.offset}, so the next log begins at {position.offset + 1},"
            f" not at {base}"
        )
    return LogPosition(log_id, position.offset, position.checksum, base)
