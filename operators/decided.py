"""What storage has decided on records that an index applies again: in a build, or because it was put back.

Two things that an index holds do not follow from the order alone: which images are hidden because the scorer could not
process them, and so which replays had to place their image. Storage knows both.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol

from core.types import NO_OFFSET, ImageId, Lookup
from operators.clients import Storage, storage_waited_for
from search.serving.search_pb2 import LogEntry

__all__ = ["Decided", "StoreDecisions", "drop_needless_images", "stretches"]


class Decided(Protocol):
    """What storage has decided so far."""

    def unscored(self, through: int) -> Sequence[int]:
        """Places of unscored images up to a position, ascending, without those that are `hidden`."""
        ...

    def hidden(self, place: int) -> None:
        """The index has hidden the image at a place."""
        ...

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        """The memberships of images, and storage's position."""
        ...


class StoreDecisions:
    """`Decided` by a storage server."""

    def __init__(self, storage: Storage, released: int = NO_OFFSET) -> None:
        """Takes the client, and what the index has released: up to there it hides what storage holds as unscored."""
        self._storage = storage
        self._through = released
        self._waiting: list[int] = []

    def unscored(self, through: int) -> Sequence[int]:
        """See `Decided`.

        Raises:
            UnavailableError: The server did not answer.
        """
        while self._through < through:
            with storage_waited_for():
                found = self._storage.unscored(self._through)
            self._waiting = sorted({*self._waiting, *found.places})
            self._through = found.through
            if found.complete:
                break
        return self._waiting[: bisect_right(self._waiting, through)]

    def hidden(self, place: int) -> None:
        """See `Decided`."""
        del self._waiting[bisect_left(self._waiting, place)]

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        """See `Decided`.

        Raises:
            UnavailableError: The server did not answer.
        """
        with storage_waited_for():
            return self._storage.look_up(ids)


def drop_needless_images(entries: Iterable[LogEntry], decided: Decided) -> None:
    """Drops the image from each replay that storage has decided without giving its position to the image as place.

    Such a replay found the image where it was, or the image has a later place since. One that gave a place to an image
    which became unscored there is left as it is: a later replay may have placed the image again, and without this one
    an older version would come between them. An image that storage no longer holds was deleted later; its replay is
    left too, so that the delete finds what it found.
    """
    carrying = [entry for entry in entries if entry.replay.HasField("image")]
    if not carrying:
        return
    found = decided.look_up({ImageId(entry.replay.image_id) for entry in carrying})
    unscored = set(decided.unscored(carrying[-1].offset))
    for entry in carrying:
        held = found.memberships.get(ImageId(entry.replay.image_id))
        elsewhere = held is not None and held.place != entry.offset and entry.offset not in unscored
        if elsewhere and entry.offset <= found.position.offset:
            entry.replay.ClearField("image")


def stretches(first: int, count: int, places: Iterable[int]) -> Iterator[tuple[slice, int | None]]:
    """Cuts a batch of records so that each of some places can be hidden as soon as it is applied.

    Args:
        first: The position of the first record.
        count: How many records.
        places: Ascending, none after the last record.

    Returns:
        Parts of the batch, in order, each with the place to hide after it. The last one has none.
    """
    done = 0
    for place in places:
        upto = max(done, place + 1 - first)
        yield slice(done, upto), place
        done = upto
    yield slice(done, count), None
