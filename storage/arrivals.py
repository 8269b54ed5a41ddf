"""When the images that a store applied last had arrived: where to read again, once the log after them is lost."""

from __future__ import annotations

from itertools import islice

from core.types import Cause, Trigger
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["MOST_READ", "earliest_arrival"]

MOST_READ = 50_000
"""The history entries that one call reads at most: 20,000 took 0.7 s on two busy cores, and the caller waits 5 s."""


def earliest_arrival(view: StoreView, images: int, most_read: int = MOST_READ) -> int:
    """The earliest arrival among the images that were applied last, in ms since the epoch; 0 if there is none.

    Images are joined in another order than they arrive in while one partition is behind the others. So it is the
    earliest of many. Images that a later record moved do not count: an adopted, replayed or deleted one may have
    arrived long before. Rows of manifests do not either: they came by no topic of embeddings. So few of the last
    entries, or none, count after a large load or a delta. Then it is the earliest of those found.

    Args:
        view: The store.
        images: How many to look at.
        most_read: How many entries of the history are read at most.
    """
    state = view.state()
    after, oldest = state.history_number, max(state.history_first - 1, state.history_number - most_read)
    arrived: list[int] = []
    step = images
    while after > oldest and len(arrived) < images:
        before, after = after, max(oldest, after - step)
        entries = islice(view.history_from(after), before - after)
        arrived = [*(entry.arrived_at_ms for entry in entries if _arrives(view, entry)), *arrived]
        step *= 2
    return min(arrived[-images:], default=0)


def _arrives(view: StoreView, entry: HistoryEntry) -> bool:
    """Whether the record of the image itself made the entry. A replay may have given the image its place as well."""
    gone = entry.cause in (Cause.DELETED, Cause.FORGOTTEN)
    if entry.place != entry.offset or gone or entry.trigger is not Trigger.STREAM:
        return False
    if entry.old_head is None:
        return True
    first = next(each for each in view.history_of(entry.image_id) if each.version == entry.version)
    return first.number == entry.number
