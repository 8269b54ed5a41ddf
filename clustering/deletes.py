"""What a delete removes, by the version that it names and by what is there."""

from __future__ import annotations

from clustering.arrivals import Arrival, Deleting
from clustering.staging import StagedLookup
from core.types import NO_HEAD, Cause, Move, Tombstone

__all__ = ["deletion"]


def deletion(arrival: Arrival, asks: Deleting, staged: StagedLookup) -> tuple[Tombstone | None, tuple[Move, ...]]:
    """The tombstone that a delete leaves, and the move of the image if it is there; neither if there is no effect.

    A delete without a version removes what is there. One with a version also holds for versions to come, up to it; it
    removes nothing if a higher version is there.
    """
    image_id = arrival.image_id
    membership = staged.membership(image_id)
    last = staged.last_version(image_id)
    version = last if asks.version is None else asks.version
    if version < max(last, 0):
        return None, ()
    if membership is None and version == last and not asks.forget:  # what was deleted before can yet be forgotten
        return None, ()
    tombstone = Tombstone(image_id, version, arrival.offset, asks.requested_at_ms, asks.author, asks.reason)
    if membership is None:
        return tombstone, ()
    return tombstone, (Move(image_id, membership.head, NO_HEAD, Cause.DELETED),)
