"""Which images could not be searched or scored, by the offsets that placed them. The index must hide them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice

from core.types import Cause
from storage.interfaces import StoreView

__all__ = ["UnscoredImages", "unscored_after"]

MAX_ENTRIES = 20_000
"""History entries that one call reads: 0.2 s on a small machine."""


@dataclass(frozen=True, slots=True)
class UnscoredImages:
    """The answer of one call."""

    places: tuple[int, ...]
    """Ascending. A version that was replaced since is named too."""
    through: int
    """No other record up to this offset placed an unscored image."""
    complete: bool
    """`through` is the offset of the store."""


def unscored_after(view: StoreView, after: int, max_entries: int = MAX_ENTRIES) -> UnscoredImages:
    """The unscored images that records after an offset placed, as far as `max_entries` history entries say.

    An image stays unscored when another one adopts it, so its own entry counts and not its last. What swept entries
    told is kept.
    """
    state = view.state()
    swept = list(islice(view.swept_unscored(after), max_entries))
    if len(swept) == max_entries:
        return UnscoredImages(tuple(place for _, place in swept), swept[-1][0], complete=False)
    numbers = range(state.history_first - 1, state.history_number)
    first = numbers.start + bisect_right(numbers, after, key=lambda number: next(view.history_from(number)).offset)
    entries = list(islice(view.history_from(first), max_entries))
    complete = first + len(entries) >= state.history_number
    if not complete:  # the last record may have further entries; it is named again by the next call
        last = entries[-1].offset
        entries = [entry for entry in entries if entry.offset < last] or entries
    through = state.position.offset if complete else entries[-1].offset
    places = (*(place for _, place in swept), *(entry.place for entry in entries if entry.cause is Cause.UNSCORED))
    return UnscoredImages(places, max(after, through), complete)
