"""Heads and members as they were, read from the history. Pure.

A time is that of the storage server's clock, to the second: a change counts from the second on in which it was written.
Entries that an earlier release wrote are taken at the time of their decisions. So are those of the first second that
is kept, if the time lies before it. Images that were deleted since are told as they were.
"""

from __future__ import annotations

from core.errors import BadInputError
from core.types import NO_HEAD, ImageId
from storage.interfaces import StoreView

__all__ = ["MAX_CHANGES", "head_at", "members_at", "number_at", "number_before"]

MAX_CHANGES = 100_000
"""So many changes since then are read for the members of a cluster: for about three seconds, into some 20 MB."""


def number_at(view: StoreView, time_ms: int) -> int:
    """The number of the last history entry that was written at a time or before; 0: none.

    Args:
        view: The store.
        time_ms: Milliseconds since the epoch.
    """
    kept = view.moment(time_ms // 1000)
    if kept is not None:
        return kept
    first = view.first_moment()
    low, high = 0, view.state().history_number if first is None else first
    while low < high:
        middle = (low + high + 1) // 2
        entry = view.history_entry(middle)
        if entry is not None and entry.decided_at_ms <= time_ms:
            low = middle
        else:
            high = middle - 1
    return low


def number_before(view: StoreView, time_ms: int) -> int:
    """The number of the last history entry that was written before the second of a time; 0: none.

    Args:
        view: The store.
        time_ms: Milliseconds since the epoch.
    """
    return number_at(view, time_ms // 1000 * 1000 - 1)


def head_at(view: StoreView, image_id: ImageId, number: int) -> ImageId | None:
    """The head of an image after a history entry was written; None: it was unknown or deleted.

    Args:
        view: The store.
        image_id: The image.
        number: Of the entry.
    """
    head = None
    for entry in view.history_of(image_id):
        if entry.number > number:
            break
        head = entry.new_head
    return None if head == NO_HEAD else head


def members_at(view: StoreView, head: ImageId, number: int, most: int = MAX_CHANGES) -> list[ImageId]:
    """The members of a cluster after a history entry was written, in the order in which they had joined.

    Args:
        view: The store.
        head: Of the cluster; one that nobody belonged to has no members.
        number: Of the entry.
        most: Changes that are read.

    Raises:
        BadInputError: More changes came since.
    """
    since = view.state().history_number - number
    if since > most:
        raise BadInputError(f"{since:,} changes came since then, and at most {most:,} are read: choose a later time")
    before: dict[ImageId, ImageId | None] = {}
    for entry in view.history_from(number):
        before.setdefault(entry.image_id, entry.old_head)
    members = {edge.member: edge.sequence for edge in view.edges_of(head, 0) if edge.member not in before}
    for image_id, old_head in before.items():
        if old_head == head:
            members[image_id] = _joined(view, image_id, number)
    return sorted(members, key=members.__getitem__)


def _joined(view: StoreView, image_id: ImageId, number: int) -> int:
    """The sequence by which an image had come to the head that it had after an entry."""
    joined, head = 0, None
    for entry in view.history_of(image_id):
        if entry.number > number:
            break
        if entry.new_head != head:
            joined, head = entry.sequence, entry.new_head
    return joined
