"""Decides what the new records of a call do to an index, before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import BadInputError, LogGapError
from core.types import ImageId, LogPosition
from search.index.codec import MAX_LOG_ID_BYTES, AppliedBatch, Effect
from search.index.interface import NO_IMAGE, Insert, Record, Remove, Skip

__all__ = ["RecordShape", "check_log_id", "check_records", "plan_batch"]

_EFFECTS = {Insert: Effect.INSERTED, Skip: Effect.SKIPPED, Remove: Effect.REMOVED}


@dataclass(frozen=True, slots=True)
class RecordShape:
    """The sizes that every insert must have."""

    groups: int
    bits_per_group: int
    code_bytes: int

    def check(self, record: Insert) -> None:
        """Checks one record.

        Raises:
            BadInputError: It has other sizes, or a term of too many bits.
        """
        if record.terms.shape != (self.groups,) or len(record.code) != self.code_bytes:
            raise BadInputError(
                f"offset {record.offset} has {record.terms.shape} terms and {len(record.code)} code bytes, "
                f"the index takes ({self.groups},) and {self.code_bytes}"
            )
        if int(record.terms.max()) >> self.bits_per_group:
            raise BadInputError(f"offset {record.offset} has a term of more than {self.bits_per_group} bits")


def check_log_id(log_id: str) -> None:
    """Checks the id of a log.

    Raises:
        BadInputError: It is empty or too long.
    """
    if not 1 <= len(log_id.encode()) <= MAX_LOG_ID_BYTES:
        raise BadInputError(f"a log id has 1 to {MAX_LOG_ID_BYTES} bytes")


def check_records(log_id: str, records: Sequence[Record], position: LogPosition, shape: RecordShape) -> int:
    """Checks that records can be applied at a position; returns how many of the first ones were applied before.

    Raises:
        LogGapError: They leave a gap after the position, or are from another log, by its id or by the checksum of the
            last record applied.
        BadInputError: Offsets are not consecutive, terms or a code have the wrong size, or there is no log id.
    """
    check_log_id(log_id)
    if not records:
        return 0
    first, expected = records[0].offset, position.offset + 1
    for index, record in enumerate(records):
        if record.offset != first + index:
            raise BadInputError(f"offset {record.offset} follows {first + index - 1}: offsets must be consecutive")
        if isinstance(record, Insert):
            shape.check(record)
    if first < 0:
        raise BadInputError(f"offsets start at 0, not {first}")
    if position.log_id and log_id != position.log_id:
        raise LogGapError(f"the index follows log {position.log_id!r}, the records are from {log_id!r}", expected)
    if first > expected:
        raise LogGapError(f"the index expects offset {expected}, the records begin at {first}", expected)
    applied = min(expected - first, len(records))
    _check_last(records, applied, position)
    return applied


def _check_last(records: Sequence[Record], applied: int, position: LogPosition) -> None:
    last = records[applied - 1] if applied else None
    if last is not None and last.offset == position.offset and last.checksum != position.checksum:
        raise LogGapError(
            f"offset {position.offset} was applied with checksum {position.checksum:#010x} and now has "
            f"{last.checksum:#010x}: this is not the log that the index follows",
            position.offset + 1,
        )


def plan_batch(
    log_id: str, records: Sequence[Record], latest_version: Callable[[ImageId], int | None], shape: RecordShape
) -> AppliedBatch:
    """The effects of new records, in order; each sees the effects of those before it.

    Args:
        log_id: The log of the records.
        records: The next records of the log, at least one.
        latest_version: Gives the highest version of an image placed so far; None for an unknown image.
        shape: The sizes of every insert.
    """
    placed_here: dict[ImageId, int] = {}
    effects = []
    for record in records:
        latest = placed_here.get(record.image_id, latest_version(record.image_id))
        if record.image_id == NO_IMAGE or (latest is not None and record.version <= latest):
            effects.append(Effect.PASSED)
            continue
        placed_here[record.image_id] = record.version
        effects.append(_EFFECTS[type(record)])
    rows = list(zip(records, effects, strict=True))
    inserts = [record for record, effect in rows if effect is Effect.INSERTED and isinstance(record, Insert)]
    return AppliedBatch(
        log_id=log_id,
        first_offset=records[0].offset,
        effects=np.array(effects, np.uint8),
        checksums=np.array([record.checksum for record in records], np.uint32),
        versions=np.array([0 if effect is Effect.PASSED else record.version for record, effect in rows], np.uint64),
        image_ids=tuple(NO_IMAGE if effect is Effect.PASSED else record.image_id for record, effect in rows),
        terms=np.array([insert.terms for insert in inserts], np.uint32).reshape(-1, shape.groups),
        codes=np.frombuffer(b"".join(insert.code for insert in inserts), np.uint8).reshape(-1, shape.code_bytes),
    )
