"""When the images that a store applied last had arrived: where to read again, once the log after them is lost."""

from __future__ import annotations

from core.types import Cause, Trigger
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["earliest_arrival"]


def earliest_arrival(view: StoreView, images: int) -> int:
    """The earliest arrival among the images that were applied last, in ms since the epoch; 0 if there is none.

    Images are joined in another order than they arrive in while one partition is behind the others. So it is the
    earliest of many. Images that a later record moved do not count: an adopted, replayed or deleted one may have
    arrived long before. Rows of manifests do not either: they came by no topic of embeddings.

    Args:
        view: The store.
        images: How many to look at.
    """
    state = view.state()
    first, last = state.history_first, state.history_number
    looked_at = images
    while True:
        after = max(first - 1, last - looked_at)
        arrived = [entry.arrived_at_ms for entry in view.history_from(after) if _arrives(view, entry)]
        if len(arrived) >= images or after == first - 1:
            return min(arrived[-images:], default=0)
        looked_at *= 2


def _arrives(view: StoreView, entry: HistoryEntry) -> bool:
    """Whether the record of the image itself made the entry. A replay may have given the image its place as well."""
    gone = entry.cause in (Cause.DELETED, Cause.FORGOTTEN)
    if entry.place != entry.offset or gone or entry.trigger is not Trigger.STREAM:
        return False
    if entry.old_head is None:
        return True
    first = next(each for each in view.history_of(entry.image_id) if each.version == entry.version)
    return first.number == entry.number
