"""Which segments to merge. Pure.

Only segments that are neighbours in age are merged, so that places stay in order. They are merged when there are enough
of about one size, so each entry is rewritten once for each power of the fan (log-structured merge trees: O'Neil et al.,
1996; tiered as in Cassandra and Lucene).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SegmentSize", "choose_merge"]

_DROPPABLE_SHARE = 0.25
"""A segment is rewritten when this share of its entries can be dropped."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """The sizes of a segment that the choice depends on."""

    entries: int
    droppable: int = 0
    """Entries that a rewrite would drop (`search.index.rewriting.droppable`). Counting other hidden entries would lead
    to endless rewrites."""
    id_bytes: int = 0


def choose_merge(
    segments: Sequence[SegmentSize], smallest: int, fan: int, max_entries: int, max_id_bytes: int = 2**32 - 1
) -> tuple[int, int] | None:
    """The segments to merge next, from the first to before the last; None when nothing is due.

    Args:
        segments: In order of age.
        smallest: The usual size of a freshly sealed segment.
        fan: How many neighbours of one tier are merged.
        max_entries: No merge makes a larger segment.
        max_id_bytes: No merge makes a segment with more bytes of ids.
    """
    tiers = [_tier(one.entries, smallest, fan) for one in segments]
    # The youngest run comes first: its segments are the smallest, and every search visits every segment.
    last = len(segments)
    while last > 0:
        tier = tiers[last - 1]
        first = last
        while first > 0 and tiers[first - 1] <= tier:
            first -= 1
        run = segments[first:last]
        fits = sum(one.entries for one in run) <= max_entries and sum(one.id_bytes for one in run) <= max_id_bytes
        if tiers[first:last].count(tier) >= fan and fits:
            return first, last
        last -= 1
    for index, one in enumerate(segments):
        if one.droppable > _DROPPABLE_SHARE * one.entries:
            return index, index + 1
    return None


def _tier(entries: int, smallest: int, fan: int) -> int:
    tier, size = 0, max(smallest, 1)
    while entries >= size * fan:
        tier, size = tier + 1, size * fan
    return tier
