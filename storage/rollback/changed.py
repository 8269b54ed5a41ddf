"""The images that have changed since a moment, and the heads that they had then: read from the history. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from core.overrides import ChangeFilter, Point, Rollback
from core.types import NO_HEAD, ImageId, Trigger
from storage.erasing import AsErased
from storage.interfaces import StoreView
from storage.records import HistoryEntry
from storage.rollback.points import AppliedAfter, first_after, point_of

__all__ = ["Changed", "entry_at", "new_images"]


LATEST = Point(2**63, 0)
"""After every moment."""


class Changed:
    """The images that a rollback selects."""

    def __init__(self, view: StoreView, rollback: Rollback, applied_after: AppliedAfter) -> None:
        """Reads the changes.

        Raises:
            BadInputError: The history since then is not kept any more.
        """
        self._rollback = rollback
        self._applied_after = applied_after
        self.first = first_after(view, rollback.to, applied_after)
        """The number of the first change after the moment."""
        self._heads: dict[ImageId, ImageId | None] = {}
        self._selected: set[ImageId] | None = None if _takes_all(rollback) else set()
        self._until = rollback.until or LATEST
        self._names: dict[ImageId, ImageId] = {}
        """Each head once: there are many images to a head."""
        self._read(view)

    def _read(self, view: StoreView) -> None:
        for entry in AsErased(view).history_from(self.first - 1):
            if not self._rollback.to < point_of(entry, self._applied_after) <= self._until:
                continue
            head = entry.old_head
            self._heads.setdefault(entry.image_id, head and self._names.setdefault(head, head))
            if self._selected is not None and _counts(entry, self._rollback, self._applied_after):
                self._selected.add(entry.image_id)

    def heads(self) -> Iterator[tuple[ImageId, ImageId | None]]:
        """The selected images, and the heads that they had then; None: they were unknown or deleted."""
        selected = self._heads if self._selected is None else self._selected
        return ((image_id, head) for image_id, head in self._heads.items() if image_id in selected)


def new_images(view: StoreView, rollback: Rollback, until: int, applied_after: AppliedAfter) -> Iterator[ImageId]:
    """The images that are to be decided again, since they came after the moment that a rollback went back to.

    Args:
        view: The store.
        rollback: It was applied.
        until: Its number.
        applied_after: Of the overrides of the store.
    """
    end = min(Point(applied_after(until), until - 1), rollback.until or LATEST)
    history = AsErased(view)
    for entry in history.history_from(first_after(view, rollback.to, applied_after) - 1):
        if entry.offset > end.position:
            return
        if entry.old_head is None and rollback.to < point_of(entry, applied_after) <= end:
            image = view.image(entry.image_id)
            later = history.history_of(entry.image_id, entry.number - 1)
            counted = (_counts(each, rollback, applied_after) for each in later if point_of(each, applied_after) <= end)
            if image is not None and image.version >= entry.version and any(counted):
                yield entry.image_id


def entry_at(
    history: AsErased, image_id: ImageId, rollback: Rollback, applied_after: AppliedAfter
) -> HistoryEntry | None:
    """The last change of an image before the moment that a rollback goes back to."""
    last = None
    for entry in history.history_of(image_id):
        if point_of(entry, applied_after) > rollback.to:
            break
        last = entry
    return None if last is None or last.new_head == NO_HEAD else last


def _takes_all(rollback: Rollback) -> bool:
    return rollback.where == ChangeFilter() and not rollback.of and rollback.since <= rollback.to


def _counts(entry: HistoryEntry, rollback: Rollback, applied_after: AppliedAfter) -> bool:
    where = rollback.where
    return (
        where.model in (None, entry.versions.model)
        and where.cause in (None, entry.cause)
        and (where.head is None or where.head in (entry.old_head, entry.new_head))
        and (not rollback.of or (entry.trigger is not Trigger.STREAM and entry.reference == rollback.of))
        and (rollback.since <= rollback.to or point_of(entry, applied_after) > rollback.since)
    )
