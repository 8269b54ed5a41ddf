"""Rewriting segments: their entries are joined, without what no search can find any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from search.index.columns import Columns, Kind
from search.index.forgetting import Name, renamed_entries
from search.index.segment import Segment
from search.index.source import Source

__all__ = ["Succession", "droppable", "hide_all", "joined_entries"]


def droppable(segment: Segment, hides: Mapping[int, int], released: int) -> NDArray[np.bool_]:
    """Which of the hidden entries of a segment lose terms and code when it is rewritten, in the order of `hides`.

    Args:
        segment: The segment.
        hides: Its hidden entries, as in `Source.hides`.
        released: As for `joined_entries`.
    """
    entries = np.fromiter(hides.keys(), np.int64, len(hides))
    values = np.fromiter(hides.values(), np.int64, len(hides))
    found: NDArray[np.bool_] = (values - 1 <= released) & (segment.kinds[entries] == Kind.SEARCHABLE)
    return found


def joined_entries(
    old: Sequence[Segment], hides: Sequence[Mapping[int, int]], released: int, names: Sequence[Name] = ()
) -> tuple[Columns, dict[int, int]]:
    """The joined entries of neighbouring segments, and which of them stay hidden.

    Args:
        old: The segments, in order of age.
        hides: For each segment its hidden entries, as in `Source.hides`.
        released: No search as of this or an earlier place comes again, so entries that only they see are dropped.
        names: What forgotten images are called from now on.
    """
    parts, kept, edge = [], dict[int, int](), 0
    for segment, hidden in zip(old, hides, strict=True):
        entries = np.fromiter(hidden.keys(), np.int64, len(hidden))
        values = np.fromiter(hidden.values(), np.int64, len(hidden))
        gone = droppable(segment, hidden, released)
        parts.append(segment.columns().without(np.sort(entries[gone])).renamed(renamed_entries(segment, names)))
        kept.update(zip((edge + entries[~gone]).tolist(), values[~gone].tolist(), strict=True))
        edge += len(segment)
    return Columns.joined(parts), kept


def hide_all(source: Source, hides: Mapping[int, int]) -> None:
    """Hides entries, given as in `Source.hides`."""
    for entry, value in hides.items():
        source.hide(entry, value - 1)


class Succession:
    """Carries over to a new source what is hidden in the old ones while the new one is written."""

    def __init__(self, old: Sequence[Source]) -> None:
        """Notes what is hidden in the old ones (in order of age) now."""
        self._old = old
        self._from = [len(source.hide_order) for source in old]
        self.hides = [source.hides.copy() for source in old]
        """For each old source what was hidden at the start."""

    def follow(self, new: Source) -> None:
        """Hides in the new source what was hidden in the old ones since the start; may be repeated."""
        edges = accumulate((len(source.places) for source in self._old), initial=0)
        for source, edge, start in zip(self._old, edges, self._from, strict=False):
            for entry in source.hide_order[start:]:
                new.hide(edge + entry, source.hides[entry] - 1)
