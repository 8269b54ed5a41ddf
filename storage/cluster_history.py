"""Who joined and who left a cluster, read from the history. Pure.

History is known by image and by number, and not by head. So the entries are read back from the newest, as many as the
caller allows, and the caller is told how far that went. Whoever left can be found in no other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from core.types import ImageId
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["ClusterChanges", "cluster_changes"]

_BLOCK = 1_000
"""Entries that are read at once: a store reads them forwards alone."""


@dataclass(frozen=True, slots=True)
class ClusterChanges:
    """The changes by which images joined or left one cluster, as far as was looked."""

    entries: tuple[HistoryEntry, ...]
    """The newest first."""
    looked_from: int
    """The number of the oldest entry that was looked at. All from here on are told, up to where the caller began."""
    complete: bool
    """No older entry is kept, or the caller wants none."""


def cluster_changes(
    view: StoreView, head: ImageId, before: int, limit: int, most: int, after: int = 0
) -> ClusterChanges:
    """The last entries by which an image joined or left a cluster. One that stayed in it did neither.

    Args:
        view: The store.
        head: Of the cluster.
        before: Only entries with lower numbers.
        limit: Entries that are told.
        most: Entries that are looked at.
        after: Only entries with higher numbers.
    """
    lowest = max(after + 1, before - most)
    looked_from = before
    found: list[HistoryEntry] = []
    for entry in _backwards(view, before, lowest):
        looked_from = entry.number
        if entry.old_head != entry.new_head and head in (entry.old_head, entry.new_head):
            found.append(entry)
            if len(found) == limit:
                break
    else:
        looked_from = min(before, lowest)
    return ClusterChanges(tuple(found), looked_from, complete=looked_from <= after + 1)


def _backwards(view: StoreView, before: int, lowest: int) -> Iterator[HistoryEntry]:
    """The entries below one number, down to another."""
    end = before
    while end > lowest:
        start = max(lowest, end - _BLOCK)
        yield from reversed(list(islice(view.history_from(start - 1), end - start)))
        end = start
