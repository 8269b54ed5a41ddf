"""What an index holds now, by place: entries that a search from the next place can find, and deletes that stand.

An entry is listed unless it is hidden, or was skipped: a later placement of the same image hides it. A page is found by
looking at the columns of the entries alone, at `LOOKED_AT` of them at most, so that it takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from core.pseudonyms import is_pseudonym
from search.index.columns import Kind
from search.index.interface import Listing, Stored
from search.index.source import Source
from search.index.state import State

__all__ = ["LOOKED_AT", "SHARES", "listed_at", "listed_page"]

LOOKED_AT = 2**18
"""A page ends after so many entries, listed or not."""

_BLOCK = 2**14
"""Entries that are looked at together, so that a page of few entries does not look at many."""

SHARES = 2**32
"""What a share of the places is a part of."""

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: its multiples lie evenly, so neighbouring places have each share of them too."""


def listed_page(state: State, after: int, limit: int, share: int = SHARES) -> Listing:
    """The entries at later places, by place.

    Args:
        state: The index.
        after: The place before the page; -1: the page is the first.
        limit: The most entries of the page, from 1.
        share: Of `SHARES`: about so many of the places, always the same ones.
    """
    found: list[Stored] = []
    left, through = LOOKED_AT, after
    for source in state.sources:
        places = source.places  # before the other columns: a tail grows
        first = int(np.searchsorted(places, after, side="right"))
        while first < len(places):
            if left == 0:
                return Listing(tuple(found), through, complete=False)
            last = min(len(places), first + min(_BLOCK, left))
            rows = first + np.flatnonzero(_is_listed(source, first, last) & _in_share(places[first:last], share))
            taken = rows[: limit - len(found)]
            found += _stored(source, taken)
            if len(taken) < len(rows):
                return Listing(tuple(found), found[-1].place, complete=False)
            left, through, first = left - (last - first), int(places[last - 1]), last
    return Listing(tuple(found), through, complete=True)


def listed_at(state: State, places: Sequence[int]) -> list[Stored | None]:
    """What is listed at some places; None where nothing is."""
    found: list[Stored | None] = []
    for reference in state.find(np.array(places, np.int64)).tolist():
        entry = reference & 0xFFFFFFFF
        source = state.sources[reference >> 32]
        there = reference >= 0 and bool(_is_listed(source, entry, entry + 1)[0])
        found.append(next(_stored(source, np.array([entry]))) if there else None)
    return found


def _is_listed(source: Source, first: int, last: int) -> NDArray[np.bool_]:
    kinds = source.kinds[first:last]
    listed: NDArray[np.bool_] = (kinds == Kind.SEARCHABLE) | (kinds == Kind.REMOVED) | (kinds == Kind.FORGOTTEN)
    listed &= source.hidden[first:last] == 0
    return listed


def _in_share(places: NDArray[np.int64], share: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (places.view(np.uint64) * _SPREAD) >> np.uint64(32) < np.uint64(share)
    return found


def _stored(source: Source, entries: NDArray[np.int64]) -> Iterator[Stored]:
    columns = source.ids_of(entries), source.versions[entries], source.places[entries], source.kinds[entries]
    for image_id, version, place, kind in zip(*columns, strict=True):
        deleted = Kind(int(kind)).is_delete
        yield Stored(image_id, int(version), int(place), b"", deleted, deleted, is_pseudonym(image_id))
