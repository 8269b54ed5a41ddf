"""What a replay changes: only what differs from the last verdict, unless it is forced."""

from __future__ import annotations

from clustering.arrivals import Arrival, Replaying
from core.types import LastVerdict, Membership, Move

__all__ = ["changes", "is_settled", "places"]


def places(arrival: Arrival, membership: Membership | None, last: LastVerdict | None) -> bool:
    """Whether the index has placed the image at the replay's own position, because it could not find it.

    After a failed search nobody knows. Then it counts as placed if storage says that the index hides the image: so what
    the index may have placed becomes hidden too.
    """
    if arrival.place != arrival.offset:
        return False
    if not arrival.unscored or membership is None:
        return True
    return membership.version == arrival.version and last is not None and last.unscored


def is_settled(arrival: Arrival, asks: Replaying, last: LastVerdict | None) -> bool:
    """Whether nothing can come of it: the index found no image, or model and index are those of the last verdict."""
    if arrival.place < 0 or (arrival.unscored and not asks.dry_run):
        return True
    return not (asks.force or asks.dry_run) and last is not None and last.versions == arrival.versions


def changes(arrival: Arrival, moves: tuple[Move, ...], membership: Membership, last: LastVerdict) -> tuple[Move, ...]:
    """The moves that change something.

    Args:
        arrival: The replay.
        moves: What the rule and overrides say: the image's own move, then those of other images.
        membership: Version, place and head of the image.
        last: Its last verdict.
    """
    own, *others = moves
    now = own.new_head, own.cause, own.score, own.matched, arrival.versions
    same = now == (membership.head, last.cause, last.score, last.matched, last.versions)
    return tuple(others) if same else moves
