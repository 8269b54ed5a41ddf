"""Decides what the new records of a call do to an index, before anything is written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from core.errors import BadInputError, LogGapError
from core.types import ImageId, LogPosition
from search.index.codec import MAX_LOG_ID_BYTES, AppliedBatch, Effect
from search.index.interface import NO_IMAGE, Insert, Record, Remove, Replay

__all__ = ["LatestVersion", "RecordShape", "check_log_id", "check_records", "plan_batch"]


_DELETES = (Effect.REMOVED, Effect.FORGOTTEN)


@dataclass(frozen=True, slots=True)
class LatestVersion:
    """The version of an image that was placed last."""

    version: int
    findable: bool
    """A search from the next place can find it."""
    deleted: bool = False


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
        image = record.image if isinstance(record, Replay) else record
        if isinstance(image, Insert):
            shape.check(image)
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
    log_id: str, records: Sequence[Record], latest: Callable[[ImageId], LatestVersion | None], shape: RecordShape
) -> AppliedBatch:
    """The effects of new records, in order; each sees the effects of those before it.

    Args:
        log_id: The log of the records.
        records: The next records of the log, at least one.
        latest: Gives the version of an image that was placed last so far; None for an unknown image.
        shape: The sizes of every insert.
    """
    placed_here: dict[ImageId, LatestVersion] = {}
    effects, versions, inserts = [], [], []
    for record in records:
        before = placed_here[record.image_id] if record.image_id in placed_here else latest(record.image_id)
        effect, version = _effect(record, before)
        effects.append(effect)
        versions.append(version)
        if effect is Effect.PASSED:
            continue
        placed_here[record.image_id] = LatestVersion(version, effect is Effect.INSERTED, effect in _DELETES)
        image = record.image if isinstance(record, Replay) else record
        if effect is Effect.INSERTED and isinstance(image, Insert):
            inserts.append(image)
    rows = zip(records, effects, strict=True)
    return AppliedBatch(
        log_id=log_id,
        first_offset=records[0].offset,
        effects=np.array(effects, np.uint8),
        checksums=np.array([record.checksum for record in records], np.uint32),
        versions=np.array(versions, np.uint64),
        image_ids=tuple(NO_IMAGE if effect is Effect.PASSED else record.image_id for record, effect in rows),
        terms=np.array([insert.terms for insert in inserts], np.uint32).reshape(-1, shape.groups),
        codes=np.frombuffer(b"".join(insert.code for insert in inserts), np.uint8).reshape(-1, shape.code_bytes),
    )


def _effect(record: Record, before: LatestVersion | None) -> tuple[Effect, int]:
    """What a record does, and the version that it places (0: none), after `before` was placed last."""
    if record.image_id == NO_IMAGE:
        return Effect.PASSED, 0
    match record:
        case Remove():
            return _effect_of_delete(record, before)
        case Replay():
            return _effect_of_replay(record.image, before)
        case _:
            if before is not None and record.version <= before.version:
                return Effect.PASSED, 0
            return (Effect.INSERTED if isinstance(record, Insert) else Effect.SKIPPED), record.version


def _effect_of_delete(record: Remove, before: LatestVersion | None) -> tuple[Effect, int]:
    version, effect = record.version, Effect.FORGOTTEN if record.forget else Effect.REMOVED
    if before is None:
        return (Effect.PASSED, 0) if version is None else (effect, version)
    told = before.version if version is None else version
    if told < before.version or (told == before.version and before.deleted and not record.forget):
        return Effect.PASSED, 0
    return effect, told


def _effect_of_replay(image: Insert | None, before: LatestVersion | None) -> tuple[Effect, int]:
    if image is None:
        return Effect.PASSED, 0
    if before is not None and (before.findable or before.deleted or before.version != image.version):
        return Effect.PASSED, 0
    return Effect.INSERTED, image.version
