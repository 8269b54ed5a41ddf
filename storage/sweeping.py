"""Which history is swept: what goes with the entries, and which entries are old enough. Pure.

With its entries go the keys by which they are known as those of their images, the clusters that they ended, and the
seconds in which they were written. The last of these seconds stays where it says what the first kept entry rests on:
from that second on the past is known.

One thing of a swept entry stays: that the record at an offset placed an unscored image. An index that is put back or
built again must hide it, however long ago that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

from core.errors import BadInputError
from core.types import Cause, ImageId
from storage.interfaces import StoreView
from storage.records import HistoryEntry

__all__ = ["Sweep", "planned_sweep", "sweepable"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one write removes."""

    entries: tuple[HistoryEntry, ...]
    """In order, the first that is kept among them."""
    ended: tuple[tuple[ImageId, int], ...]
    """The clusters that these entries or earlier ones ended: head and number."""
    seconds: tuple[int, int] | None
    """Seconds of history from one on and before another; None: none goes."""

    @property
    def first(self) -> int:
        """The number of the first entry that goes."""
        return self.entries[0].number

    @property
    def next_first(self) -> int:
        """The number of the first entry that is kept then."""
        return self.entries[-1].number + 1

    @property
    def unscored(self) -> tuple[tuple[int, int], ...]:
        """Offset and place of the unscored images that these entries tell of."""
        return tuple((each.offset, each.place) for each in self.entries if each.cause is Cause.UNSCORED)


def planned_sweep(view: StoreView, before: int, limit: int) -> Sweep | None:
    """What to remove of the oldest entries; None: nothing. Entries that were not published before the last one stay.

    Args:
        view: The store.
        before: Only entries with lower numbers.
        limit: Entries at most.

    Raises:
        BadInputError: The limit is below 1.
    """
    if limit < 1:
        raise BadInputError(f"a sweep takes at least 1 entry, not {limit}")
    first = view.state().history_first
    end = min(before, view.published(), first + limit)
    entries = tuple(islice(view.history_from(first - 1), max(0, end - first)))
    if not entries:
        return None
    last = entries[-1].number
    return Sweep(entries, tuple(_ended(view, entries, last)), _seconds(view, last))


def _ended(view: StoreView, entries: Iterable[HistoryEntry], last: int) -> Iterator[tuple[ImageId, int]]:
    """The clusters that images have left by these entries. All that a bulk move ended have the number of its first."""
    for head in dict.fromkeys(each.old_head for each in entries if each.old_head is not None):
        for ended in takewhile(lambda each: each.number <= last, view.ended_clusters(head, 0)):
            yield head, ended.number


def _seconds(view: StoreView, last: int) -> tuple[int, int] | None:
    """The seconds whose last entry lies before the last one that goes."""
    gone = [second for second, _ in takewhile(lambda each: each[1] < last, view.seconds_from(0))]
    return (gone[0], gone[-1] + 1) if gone else None


def sweepable(view: StoreView, time_ms: int, keep: int) -> int:
    """The number before which all entries may be swept: they were written by a time, and are not among the newest.

    An entry that an earlier release wrote counts as written in the first second that is known.

    Args:
        view: The store.
        time_ms: Milliseconds since the epoch, by the store's clock.
        keep: So many of the newest entries stay, however old.
    """
    last = view.moment(time_ms // 1000)
    return 0 if last is None else min(last, view.state().history_number - keep) + 1
