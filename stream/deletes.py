"""Deletes many images beside the stream: a few records of the order at a time, each time once storage has passed them.

So live images wait for one chunk at most, and deletes never stand behind replays, which have credits of their own. What
became of an image is read from storage: the tombstone names the record that deleted it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Protocol

from core.delete_requests import DeleteRequest
from core.errors import MismatchError
from core.types import ImageId, Lookup

__all__ = ["CHUNK", "DeleteFate", "DeleteReport", "DeleteStorage", "Deleter", "check_log", "delete_images"]

CHUNK = 64
"""Deletes that are in the order and not applied yet, at most."""

POLL_S = 0.05
"""How often storage is asked whether it has passed a chunk."""


class DeleteFate(StrEnum):
    """What became of an image."""

    DELETED = "deleted"
    BEFORE = "deleted before"
    """An earlier record had deleted it."""
    NEWER = "a newer version stays"
    """The version placed last is above the one that was to be deleted."""
    UNKNOWN = "unknown"


@dataclass(slots=True)
class DeleteReport:
    """What became of each image so far, and the position of the last record that storage has passed."""

    fates: dict[ImageId, DeleteFate] = field(default_factory=dict)
    position: int = -1

    def count(self, fate: DeleteFate) -> int:
        """How many images had this fate."""
        return sum(each is fate for each in self.fates.values())


class Deleter(Protocol):
    """Writes deletes into the order."""

    def delete(self, requests: Sequence[DeleteRequest]) -> Sequence[int]:
        """Returns the offset of each record in Kafka, once all are acknowledged."""
        ...


class DeleteStorage(Protocol):
    """What is asked of the storage server."""

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        """Its position, memberships and tombstones of images, as of one moment."""
        ...


def check_log(storage: DeleteStorage, topic: str, topic_id: str) -> None:
    """Makes sure that storage follows the topic that deletes go to.

    Raises:
        MismatchError: It follows another one.
    """
    position = storage.look_up(()).position
    if position.log_id not in ("", topic_id):
        raise MismatchError(
            f"storage follows the topic {position.log_id}, but {topic} is {topic_id} now, of which it applies "
            "nothing: see `neardup log renew`"
        )


def delete_images(
    requests: Iterable[DeleteRequest],
    writer: Deleter,
    storage: DeleteStorage,
    report: DeleteReport,
    on_progress: Callable[[bool], None] = lambda waiting: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Deletes images chunk by chunk. An image that is named twice is deleted once.

    Args:
        requests: What to delete.
        writer: Of the order.
        storage: Tells what is applied.
        report: Is added to after each chunk, so that it is true also when an error ends the deletes.
        on_progress: Called after each chunk, and with true at each look while storage has not passed one.
        sleep: Waits so many seconds.

    Raises:
        UnavailableError: A part does not answer. What is reported is deleted; the rest may be asked for again.
    """
    remaining = iter(requests)
    while chunk := {each.image_id: each for each in islice(remaining, CHUNK)}:
        wanted = [each for image_id, each in chunk.items() if image_id not in report.fates]
        if not wanted:
            continue
        offsets = writer.delete(wanted)
        ids = [each.image_id for each in wanted]
        while True:
            found = storage.look_up(ids)
            base = found.position.base  # a first load moves it while deletes wait
            if found.position.offset >= base + offsets[-1]:
                break
            on_progress(True)
            sleep(POLL_S)
        positions = [base + offset for offset in offsets]
        report.fates.update((each, _fate(each, at, found)) for each, at in zip(ids, positions, strict=True))
        report.position = positions[-1]
        on_progress(False)


def _fate(image_id: ImageId, position: int, found: Lookup) -> DeleteFate:
    tombstone = found.tombstones.get(image_id)
    if tombstone is not None:
        return DeleteFate.DELETED if tombstone.position >= position else DeleteFate.BEFORE
    return DeleteFate.NEWER if image_id in found.memberships else DeleteFate.UNKNOWN
