"""What a record is answered, as far as it follows from where the versions of its image were placed. Searches nothing.

An answer never changes once the record was applied: it depends on placements up to the record's offset alone, and on
what was hidden from that offset on.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.index.columns import Kind
from search.index.interface import NO_PLACE, Insert, Record, Remove, Replay, Skip
from search.index.placements import ANY_VERSION, FindLast, Placement, meet
from search.index.state import State

__all__ = ["Draft", "draft_of"]


@dataclass(frozen=True, slots=True)
class Draft:
    """The answer to a record, before codes and candidates are looked up."""

    place: int
    code: bytes = b""
    """The score code, if `carried` is None."""
    carried: Placement | None = None
    """The placement whose code must be looked up."""
    searched: Placement | None = None
    """The placement to search for; None: the answer has no candidates."""
    as_of: int = NO_PLACE
    """The place as of which to search for it."""
    superseded: bool = False
    version: int = 0
    deleted: bool = False


def draft_of(state: State, record: Record, last: FindLast, fresh: bool) -> Draft:
    """The draft of an applied record.

    Args:
        state: The state to search in.
        record: The record.
        last: Finds the placements of its image, including those of the records of the same call.
        fresh: It was applied just now, so that its own code need not be looked up.
    """
    match record:
        case Skip():
            return Draft(NO_PLACE)
        case Remove():
            return _of_delete(record, last)
        case Replay():
            return _of_replay(state, record, last, fresh)
        case _:
            return _of_insert(record, last, fresh)


def _of_insert(record: Insert, last: FindLast, fresh: bool) -> Draft:
    met = meet(last, record.image_id, record.version, record.offset)
    own = met.placement
    if own is None:
        return Draft(record.offset, record.code, superseded=True) if met.superseded else Draft(NO_PLACE)
    if own.kind is Kind.SKIPPED and not met.superseded:
        return Draft(NO_PLACE)
    if own.kind is not Kind.SEARCHABLE:
        deleted = own.kind.is_delete and not met.superseded
        return Draft(own.place, superseded=met.superseded, deleted=deleted)
    code, carried = (record.code, None) if fresh and own.place == record.offset else (b"", own)
    searched = own if record.searched and not met.superseded else None
    return Draft(own.place, code, carried, searched, own.place, met.superseded)


def _of_delete(record: Remove, last: FindLast) -> Draft:
    before = last(record.image_id, record.offset, ANY_VERSION)
    now = last(record.image_id, record.offset + 1, ANY_VERSION)
    version = 0 if before is None else before.version
    if now is None or not now.kind.is_delete:
        return Draft(NO_PLACE, superseded=record.version is not None and record.version < version, version=version)
    superseded = record.version is not None and record.version < now.version
    return Draft(now.place, superseded=superseded, version=version, deleted=now.place == record.offset)


def _of_replay(state: State, record: Replay, last: FindLast, fresh: bool) -> Draft:
    own = last(record.image_id, record.offset + 1, ANY_VERSION)
    if own is None:
        return Draft(NO_PLACE)
    if own.kind.is_delete:
        return Draft(own.place, version=own.version, deleted=True)
    placed_here = own.place == record.offset
    if own.kind is not Kind.SEARCHABLE or not (placed_here or state.is_visible(own, record.offset)):
        dropped = placed_here and own.kind is Kind.DROPPED
        return Draft(own.place if dropped else NO_PLACE, version=own.version)
    if fresh and placed_here and record.image is not None:
        return Draft(own.place, record.image.code, None, own, record.offset, version=own.version)
    return Draft(own.place, b"", own, own, record.offset, version=own.version)
