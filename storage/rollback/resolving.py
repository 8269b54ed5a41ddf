"""To which moment a rollback goes back: what somebody asks by time or number, in terms of the order. Pure."""

from __future__ import annotations

from core.errors import BadInputError
from core.overrides import ChangeFilter, NewImages, Override, Point, Rollback, RollbackRequest
from storage.interfaces import StoreView
from storage.past import number_at
from storage.rollback.points import AppliedAfter, point_at

__all__ = ["asked_rollback", "undoing"]


def asked_rollback(view: StoreView, asked: RollbackRequest, applied_after: AppliedAfter) -> Rollback:
    """The rollback that somebody asks for.

    Raises:
        BadInputError: There is no such change, or it is not kept any more.
    """
    if (asked.to_ms is None) is (asked.to_change is None):
        raise BadInputError("a rollback goes to a time or to a change: name one of them")
    number = number_at(view, asked.to_ms) if asked.to_ms is not None else asked.to_change
    assert number is not None
    to = point_at(view, number, applied_after)
    since = to if asked.since_ms is None else point_at(view, number_at(view, asked.since_ms), applied_after)
    return Rollback(to, max(to, since), asked.where, asked.new)


def undoing(undone: Override) -> Rollback:
    """What an undo of a rollback does: the images that it moved go back to where they were before it."""
    before = Point(undone.applied_after, undone.number - 1)
    return Rollback(before, before, ChangeFilter(), NewImages.KEEP, of=undone.number)
