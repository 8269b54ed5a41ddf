"""Which segments to merge. Pure.

Segments are merged with their neighbours in age only, so that places stay in order, and when there are enough of about
one size: each entry is rewritten once for each power of the fan (the tiers of log-structured merge trees: O'Neil et
al., 1996; tiered as in Cassandra and Lucene).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SegmentSize", "choose_merge"]

_DROPPABLE_SHARE = 0.25
"""A segment in which so many entries can be dropped is rewritten."""


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """What the choice depends on."""

    entries: int
    droppable: int = 0
    """Entries that lose terms and code when it is rewritten (`search.index.rewriting.droppable`): to count others would
    rewrite it for ever."""
    id_bytes: int = 0


def choose_merge(
    segments: Sequence[SegmentSize], smallest: int, fan: int, max_entries: int, max_id_bytes: int = 2**32 - 1
) -> tuple[int, int] | None:
    """The segments first to last - 1 to merge next; None when all is well.

    Args:
        segments: In order of age.
        smallest: The usual size of a freshly sealed segment.
        fan: So many neighbours of one tier are merged.
        max_entries: No merge makes a larger segment.
        max_id_bytes: No merge makes a segment with more bytes of ids.
    """
    tiers = [_tier(one.entries, smallest, fan) for one in segments]
    # The youngest run first: its segments are the smallest, and each search pays for every one of them.
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
