"""The history: every move of every image, numbered from 1 without a gap.

The numbers are also the sequences of edges: an image's edge carries the number of the move that brought it in.
"""

from __future__ import annotations

from collections.abc import Iterator

from core.types import Decision, Move
from storage.interfaces import HistoryView
from storage.records import HistoryEntry, ImageRecord

__all__ = ["entries_since", "entry_of", "next_number"]

CHUNK = 500
"""Entries per read of `entries_since`."""


def next_number(last: int) -> int:
    """The number after `last` (0: nothing was written yet)."""
    return last + 1


def entry_of(number: int, decision: Decision, move: Move, moved: ImageRecord) -> HistoryEntry:
    """The entry of one move.

    Args:
        number: The entry's number.
        decision: Of which the move is a part.
        move: What happened.
        moved: The image as it stands after the move.
    """
    return HistoryEntry(
        number=number,
        image_id=move.image_id,
        old_head=move.old_head,
        new_head=move.new_head,
        cause=move.cause,
        score=move.score,
        matched=move.matched,
        place=moved.place,
        offset=decision.offset,
        version=moved.version,
        decided_at_ms=decision.decided_at_ms,
        created_at_ms=moved.created_at_ms,
        arrived_at_ms=moved.arrived_at_ms,
        versions=decision.versions,
        truncated=decision.truncated,
    )


def entries_since(view: HistoryView, number: int, chunk: int = CHUNK) -> Iterator[HistoryEntry]:
    """All entries after `number`, read `chunk` at a time; ends when there are no more."""
    while entries := view.history(number, chunk):
        yield from entries
        number = entries[-1].number
