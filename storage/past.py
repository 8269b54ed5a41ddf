"""Heads and members as they were, read from the history. Pure.

A time is that of the storage server's clock, to the second: a change counts from the second on in which it was written.
Entries that an earlier release wrote are taken at the time of their decisions. So are those of the first second that
is kept, if the time lies before it. Images that were deleted since are told as they were.

Where old history was swept, the past is known from a second on that the store keeps (`storage.sweeping`). Heads of then
are those before the next change that is kept. A time before is refused, never answered as if nothing had been.
"""

from __future__ import annotations

from datetime import UTC, datetime

from core.errors import BadInputError
from core.types import NO_HEAD, ImageId
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = [
    "MAX_CHANGES",
    "PastUnknownError",
    "check_kept",
    "head_at",
    "members_at",
    "number_at",
    "number_before",
]

MAX_CHANGES = 100_000
"""So many changes since then are read for the members of a cluster: for about three seconds, into some 20 MB."""


class PastUnknownError(BadInputError):
    """The history that tells is not kept any more."""


def check_kept(view: StoreView, number: int) -> None:
    """Checks that heads are known as they were after a history entry was written.

    Raises:
        PastUnknownError: They are not, since entries after it were swept.
    """
    first = view.state().history_first
    if number < first - 1:
        raise PastUnknownError(f"history is kept from number {first} on, not as of number {number}{_known_since(view)}")


def _known_since(view: StoreView) -> str:
    found = next(view.seconds_from(0), None)
    return "" if found is None else f": the past is known from {_iso(found[0])} on"


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")


def number_at(view: StoreView, time_ms: int) -> int:
    """The number of the last history entry that was written at a time or before; 0: none.

    Args:
        view: The store.
        time_ms: Milliseconds since the epoch.

    Raises:
        PastUnknownError: The history of then was swept.
    """
    kept = view.moment(time_ms // 1000)
    if kept is not None:
        return kept
    if view.state().history_first > 1:
        raise PastUnknownError(f"the history of that time is not kept{_known_since(view)}")
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

    Where the history of then was swept, that is the last one that was.

    Args:
        view: The store.
        time_ms: Milliseconds since the epoch.
    """
    try:
        return number_at(view, time_ms // 1000 * 1000 - 1)
    except PastUnknownError:
        return view.state().history_first - 1


def head_at(view: StoreView, image_id: ImageId, number: int) -> ImageId | None:
    """The head of an image after a history entry was written; None: it was unknown or deleted.

    Args:
        view: The store.
        image_id: The image.
        number: Of the entry.

    Raises:
        PastUnknownError: The history of then was swept.
    """
    check_kept(view, number)
    then: HistoryEntry | None = None
    for entry in view.history_of(image_id):
        if entry.number > number:
            return entry.old_head if then is None else _head_after(then)
        then = entry
    if then is not None:
        return _head_after(then)
    if view.is_moving(image_id):
        raise PastUnknownError(f"{image_id!r} is being moved with many others: ask again once that is over")
    image = view.image(image_id)
    return None if image is None else image.head


def _head_after(entry: HistoryEntry) -> ImageId | None:
    return None if entry.new_head == NO_HEAD else entry.new_head


def members_at(view: StoreView, head: ImageId, number: int, most: int = MAX_CHANGES) -> list[ImageId]:
    """The members of a cluster after a history entry was written, in the order in which they had joined.

    If the history of how an image had joined was swept, and it has left since, it comes right after those that had
    joined before what is kept. The head comes first all the same.

    Args:
        view: The store.
        head: Of the cluster; one that nobody belonged to has no members.
        number: Of the entry.
        most: Changes that are read.

    Raises:
        PastUnknownError: The history of then was swept.
        BadInputError: More changes came since.
    """
    check_kept(view, number)
    since = view.state().history_number - number
    if since > most:
        raise BadInputError(f"{since:,} changes came since then, and at most {most:,} are read: choose a later time")
    before: dict[ImageId, ImageId | None] = {}
    for entry in view.history_from(number):
        before.setdefault(entry.image_id, entry.old_head)
    edges = {edge.member: edge.sequence for edge in view.edges_of(head, 0)}
    members = {member: sequence for member, sequence in edges.items() if member not in before}
    for image_id, old_head in before.items():
        if old_head == head:
            joined = _joined(view, image_id, number, edges.get(image_id, 0))
            if joined == 0 and image_id != head:
                kept = view.history_entry(view.state().history_first)
                joined = 0 if kept is None else kept.sequence - 1
            members[image_id] = joined
    return sorted(members, key=members.__getitem__)


def _joined(view: StoreView, image_id: ImageId, number: int, edge: int) -> int:
    """The sequence by which an image had come to the head that it had after an entry; 0: it is not kept.

    Args:
        view: The store.
        image_id: The image.
        number: Of the entry.
        edge: The sequence by which it is a member of the same cluster now; 0: it is none.
    """
    joined = 0
    for entry in view.history_of(image_id):
        if entry.old_head == entry.new_head:
            continue
        if entry.number > number:
            return joined
        joined = entry.sequence
    return joined or edge
