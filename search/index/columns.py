"""Entries as columns: the input of a new segment, when a tail is sealed or segments are merged.

An entry is a placed image version. Entries are numbered in the order of their places. Only searchable entries have
terms and a code, so those columns have fewer rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.types import ImageId
from search.index.id_table import IdColumn

__all__ = ["Columns", "Kind"]


class Kind(IntEnum):
    """What an entry placed."""

    SEARCHABLE = 1
    SKIPPED = 2
    REMOVED = 3
    DROPPED = 4
    """It was searchable, and is now hidden from all places that may still be searched as of."""
    FORGOTTEN = 5
    """As `REMOVED`; and the image's id must not stay in any file (`search.index.forgetting`)."""

    @property
    def is_delete(self) -> bool:
        """Whether the entry says that the image was deleted."""
        return self in (Kind.REMOVED, Kind.FORGOTTEN)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Some entries, by ascending place."""

    places: NDArray[np.int64]
    versions: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    ids: IdColumn
    rows: NDArray[np.uint8]
    """(searchable, bytes) packed terms."""
    codes: Sequence[NDArray[np.uint8]]
    """(searchable, code bytes), split into any number of arrays."""

    def __len__(self) -> int:
        """How many entries."""
        return len(self.places)

    @property
    def searchable(self) -> NDArray[np.bool_]:
        """Which entries have terms and a code."""
        found: NDArray[np.bool_] = self.kinds == Kind.SEARCHABLE
        return found

    def without(self, dropped: NDArray[np.int64]) -> Columns:
        """The same columns without terms and codes of some entries, which keep id, version and place."""
        if len(dropped) == 0:
            return self
        kinds = self.kinds.copy()
        kept = np.ones(len(kinds), np.bool_)
        kept[dropped] = False
        kinds[dropped] = Kind.DROPPED
        rows = kept[self.searchable]
        codes, at = [], 0
        for piece in self.codes:
            codes.append(piece[rows[at : at + len(piece)]])
            at += len(piece)
        return Columns(self.places, self.versions, kinds, self.ids, self.rows[rows], codes)

    def renamed(self, names: Mapping[int, ImageId]) -> Columns:
        """The same columns with other ids for some entries."""
        return replace(self, ids=self.ids.renamed(names)) if names else self

    @staticmethod
    def joined(parts: Sequence[Columns]) -> Columns:
        """Concatenates parts whose places follow each other."""
        lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.ids.offsets) for part in parts)])
        ids = IdColumn(np.cumsum(lengths, dtype=np.uint32), _concatenated([part.ids.data for part in parts]))
        return Columns(
            _concatenated([part.places for part in parts]),
            _concatenated([part.versions for part in parts]),
            _concatenated([part.kinds for part in parts]),
            ids,
            _concatenated([part.rows for part in parts]),
            [piece for part in parts for piece in part.codes],
        )


def _concatenated(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays)
