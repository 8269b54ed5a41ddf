"""Which head an image gets of which a manifest says the head: the rule of one row. Pure.

A row names a head of another system. The image joins the cluster where that head is now: it may have moved by a split,
a merge or a rollback, another image may have adopted it, or it was deleted and still names its cluster. A row that
names the image itself founds a cluster. No score is asked for, and nothing is adopted. First to last:

1. A head that has other members stays a head, as in the stream.
2. An image that somebody has pinned follows its pin.
3. If the head is unknown, or was deleted with its cluster, the image founds its own cluster.
4. So it does if somebody has forbidden that it shares a cluster with a member there.
5. Else it gets the head that the row says.
"""

from __future__ import annotations

from typing import NamedTuple

from clustering.arrivals import Joining
from clustering.overrides import is_forbidden
from clustering.rule import Subject
from clustering.staging import StagedLookup
from core.manifest_rows import RowResult
from core.types import Cause, ImageId, Move

__all__ = ["Joined", "joined"]


class Joined(NamedTuple):
    """The move of an image, and what so becomes of its row."""

    move: Move
    result: RowResult


def joined(subject: Subject, asks: Joining, staged: StagedLookup, pinned: Move | None) -> Joined:
    """Decides one row.

    Args:
        subject: The image.
        asks: What the row says.
        staged: What storage will answer before it, of the image and of the head that the row names.
        pinned: The move of an image that follows its pin; None: it follows none.
    """
    image_id, old_head = subject.image_id, subject.old_head
    said = RowResult.FOUNDED if asks.head == image_id else RowResult.JOINED
    head = _head_now(subject, asks, staged)
    if subject.keeps:
        return Joined(
            Move(image_id, old_head, image_id, Cause.KEPT), said if head == image_id else RowResult.STAYS_HEAD
        )
    if pinned is not None:
        return Joined(pinned, said if head == pinned.new_head else RowResult.ELSEWHERE_PINNED)
    founds = Move(image_id, old_head, image_id, Cause.FOUNDED)
    if head is None:
        return Joined(founds, RowResult.ELSEWHERE_HEAD_GONE)
    if head != image_id and is_forbidden(subject, head, staged):
        return Joined(founds, RowResult.ELSEWHERE_FORBIDDEN)
    matched = asks.matched or (None if asks.head == image_id else asks.head)
    return Joined(Move(image_id, old_head, head, Cause.BOOTSTRAPPED, asks.score, matched), said)


def _head_now(subject: Subject, asks: Joining, staged: StagedLookup) -> ImageId | None:
    """Where the head is now that a row names; None: nowhere."""
    if asks.head == subject.image_id:
        return subject.image_id
    home = staged.home(asks.head)
    return None if home is None else home.head
