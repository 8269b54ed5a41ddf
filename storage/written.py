"""What the record at one position of the order wrote, and what was so before: read from the history. Pure.

The past is known from the history of each image. Two things are not kept. Members that have left a cluster since are
not counted. The founding code of a cluster that has ended since is known only if its head has no later version.

Where old history was swept, what rests on it is refused, unless the next change that is kept tells the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice, takewhile
from typing import NamedTuple

from core.types import NO_HEAD, Cause, Cluster, ImageId, Lookup, Membership, Move, Tombstone, Written
from storage.interfaces import StoreView
from storage.past import PastUnknownError
from storage.records import HistoryEntry

__all__ = ["COUNTED", "look_up_before", "written_at"]

COUNTED = 3
"""Members of an earlier cluster are counted up to here: the rule asks only whether there are others."""


def written_at(view: StoreView, image_id: ImageId, offset: int, others: Collection[ImageId] = ()) -> Written:
    """What the record of an image wrote, with what storage held before it of that image and of others.

    Args:
        view: The store, as of one moment.
        image_id: The image that the record names.
        offset: The position of the record.
        others: Among them are the images that the record may have moved too.

    Raises:
        PastUnknownError: The history of then was swept.
    """
    _check_position(view, offset)
    ids = [image_id, *others]
    moved = [entry for each in ids if (entry := _entry_at(view, each, offset)) is not None]
    if not moved:
        return Written(view.look_up(ids))
    first = min(moved, key=lambda entry: entry.number)
    entries = takewhile(lambda entry: _is_of(entry, offset), view.history_from(first.number - 1))
    moves = takewhile(lambda entry: entry.cause is not Cause.RENAMED, entries)  # those that follow are storage's own
    own = moved[0]
    return Written(
        before=look_up_before(view, ids, first.number),
        first_number=first.number,
        moves=tuple(map(_move, moves)),
        version=own.version,
        place=own.place,
        decided_at_ms=own.decided_at_ms,
    )


def look_up_before(view: StoreView, ids: Iterable[ImageId], number: int) -> Lookup:
    """The memberships of images, and their clusters, before a history entry was written. Counts end at `COUNTED`.

    Raises:
        PastUnknownError: The history of then was swept.
    """
    state = view.state()
    memberships: dict[ImageId, Membership] = {}
    clusters: dict[ImageId, Cluster] = {}
    tombstones: dict[ImageId, Tombstone] = {}
    for image_id in dict.fromkeys(ids):
        held = _held_before(view, image_id, number)
        if held is None:
            continue
        deleted = held.head == NO_HEAD
        head = image_id if deleted else held.head  # a deleted head names its cluster while others are members
        if not deleted:
            memberships[image_id] = Membership(image_id, held.version, held.place, head)
        elif (tombstone := view.tombstone(image_id)) is not None:
            tombstones[image_id] = tombstone
        if head not in clusters:
            cluster = _cluster_before(view, head, number, deleted=deleted)
            if cluster is not None:
                clusters[head] = cluster
    return Lookup(state.position, state.revision, memberships, clusters, tombstones)


class _Held(NamedTuple):
    """What storage held of an image. A deleted one has the head `NO_HEAD`."""

    version: int
    place: int
    head: ImageId


_DELETED = _Held(0, 0, NO_HEAD)


def _held_before(view: StoreView, image_id: ImageId, number: int) -> _Held | None:
    """What storage held of an image before a history entry was written; None: it was unknown.

    Where the last entry before was swept, the next one tells it, or the image as it is if there is none.

    Raises:
        PastUnknownError: The next one tells another version or place.
    """
    last = _last_before(view, image_id, number)
    if last is not None:
        return _Held(last.version, last.place, last.new_head)
    if view.state().history_first == 1:
        return None
    then = next(view.history_of(image_id, number - 1), None)
    if then is None:
        return _unchanged(view, image_id, number)
    if then.old_head is None:
        return _DELETED if then.cause is Cause.KEPT else None  # a head that came back to the cluster that it names
    if then.place == then.offset and then.is_of_order and then.cause is not Cause.DELETED:
        raise PastUnknownError(f"what was known of {image_id!r} before history entry {number} is not kept any more")
    return _Held(then.version, then.place, then.old_head)


def _unchanged(view: StoreView, image_id: ImageId, number: int) -> _Held | None:
    """An image of which no change is kept: it is as it was. A delete leaves no entry if there was no image."""
    if view.is_moving(image_id):
        raise PastUnknownError(f"{image_id!r} is being moved with many others: ask again once that is over")
    image, tombstone, entry = view.image(image_id), view.tombstone(image_id), view.history_entry(number)
    if image is not None:
        return _Held(image.version, image.place, image.head)
    return _DELETED if tombstone and entry and tombstone.position < entry.offset else None


def _check_position(view: StoreView, offset: int) -> None:
    """Checks that all entries of the record at a position would be kept.

    Raises:
        PastUnknownError: They would not, or a first load has the position, so there was no record.
    """
    load = view.first_load()
    if load is not None and offset < load.rows:
        raise PastUnknownError(f"position {offset} is a row of the first load, before which nothing was known")
    first = view.state().history_first
    kept = view.history_entry(first) if first > 1 else None
    if kept is not None and offset <= kept.offset:
        raise PastUnknownError(f"what the record at position {offset} wrote is not kept any more")


def _last_before(view: StoreView, image_id: ImageId, number: int) -> HistoryEntry | None:
    last = None
    for last_so_far in takewhile(lambda entry: entry.number < number, view.history_of(image_id)):
        last = last_so_far
    return last


def _entry_at(view: StoreView, image_id: ImageId, offset: int) -> HistoryEntry | None:
    return next((entry for entry in view.history_of(image_id) if _is_of(entry, offset)), None)


def _is_of(entry: HistoryEntry, offset: int) -> bool:
    """Whether the record at a position made an entry; an override that was applied after it made others."""
    return entry.offset == offset and entry.is_of_order


def _cluster_before(view: StoreView, head: ImageId, number: int, *, deleted: bool) -> Cluster | None:
    cluster = view.cluster(head)
    since = view.history_of(head, number - 1)
    if cluster is not None and all(entry.cause in (Cause.KEPT, Cause.DELETED) for entry in since):
        entry = view.history_entry(number)
        before = number if entry is None else entry.sequence
        edges = takewhile(lambda edge: edge.sequence < before, view.edges_of(head, 0))
        count = sum(1 for _ in islice(edges, COUNTED))
        return Cluster(head, max(1, count), cluster.founding_code, deleted)
    # It has ended since, so it was a singleton in the end, unless an override moved it as a whole.
    return None if deleted else Cluster(head, 1, _code_before(view, head, number))


def _code_before(view: StoreView, head: ImageId, number: int) -> bytes:
    then, image = _last_before(view, head, number), view.image(head)
    if then is None or image is None or image.version != then.version or then.cause is Cause.KEPT:
        return b""
    embedding = view.embedding(image.place)
    return b"" if embedding is None else embedding.score_code


def _move(entry: HistoryEntry) -> Move:
    return Move(entry.image_id, entry.old_head, entry.new_head, entry.cause, entry.score, entry.matched)
