"""What storage has decided on records that a build applies again.

Two things that an index holds do not follow from the order alone: which images are hidden because the scorer could not
process them, and so which replays had to place their image. Storage knows both. Where it does not answer, the job
hides the images later, and a replay of one of them has to be asked for again.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Protocol

from core.types import ImageId, Lookup
from search.serving.search_pb2 import LogEntry
from storage.serving.client import StorageClient

__all__ = ["Decided", "StoreDecisions", "drop_needless_images"]


class Decided(Protocol):
    """What storage has decided so far."""

    def unscored(self, through: int) -> list[int]:
        """Places of unscored images up to a position, ascending, without those that were given before."""
        ...

    def look_up(self, ids: Iterable[ImageId]) -> Lookup:
        """The memberships of images, and storage's position."""
        ...


class StoreDecisions:
    """`Decided` by a storage server."""

    def __init__(self, storage: StorageClient) -> None:
        """Takes the client."""
        self._storage = storage
        self._through = -1
        self._waiting: list[int] = []

    def unscored(self, through: int) -> list[int]:
        """See `Decided`.

        Raises:
            UnavailableError: The server is down, or too slow.
        """
        while self._through < through:
            found = self._storage.unscored(self._through)
            self._waiting = sorted({*self._waiting, *found.places})
            self._through = found.through
            if found.complete:
                break
        count = bisect_right(self._waiting, through)
        given, self._waiting = self._waiting[:count], self._waiting[count:]
        return given

    def look_up(self, ids: Iterable[ImageId]) -> Lookup:
        """See `Decided`.

        Raises:
            UnavailableError: The server is down, or too slow.
        """
        return self._storage.look_up(list(ids))


def drop_needless_images(entries: Iterable[LogEntry], decided: Decided) -> None:
    """Drops the image from each replay that storage has decided without giving its position to the image as place.

    Such a replay found the image where it was, or the image has a later place since. An image that storage no longer
    holds was deleted later; its replay is left as it is, so that the delete finds what it found.
    """
    carrying = [entry for entry in entries if entry.replay.HasField("image")]
    if not carrying:
        return
    found = decided.look_up({ImageId(entry.replay.image_id) for entry in carrying})
    for entry in carrying:
        held = found.memberships.get(ImageId(entry.replay.image_id))
        if entry.offset <= found.position.offset and held is not None and held.place != entry.offset:
            entry.replay.ClearField("image")
