"""Which entries of segments have the id of an image that was forgotten, and what they are called instead. Pure.

An image is forgotten by an entry of its own, `Kind.FORGOTTEN`. Once that entry is released, the image's entries up to
it have neither terms nor codes when their segments are rewritten, because no search can find them. They keep place and
version, under a pseudonym. Entries after it are of a new life.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.pseudonyms import Pseudonyms
from core.types import ImageId
from search.index.id_table import Bounds, IdColumn
from search.index.placements import ANY_VERSION
from search.index.segment import Segment

__all__ = ["Name", "entries_of", "renamed_entries", "wanted_names"]


class Name(NamedTuple):
    """What a forgotten image is called in its entries up to a place."""

    image_id: ImageId
    pseudonym: ImageId
    through: int


def wanted_names(segments: Sequence[Segment], pseudonyms: Pseudonyms, released: int) -> list[Name]:
    """The images that are to be erased from segments, with the places up to which they are."""
    found = {image_id: place for one in segments for image_id, place in one.forgets if place <= released}
    return [Name(image_id, pseudonyms.of(image_id), place) for image_id, place in found.items()]


def entries_of(segment: Segment, name: Name) -> list[int]:
    """The entries of an image that is to be erased, the youngest first."""
    asked = IdColumn.of([name.image_id])
    found: list[int] = []
    below = int(np.searchsorted(segment.places, name.through, side="right"))
    while True:
        bounds = Bounds(np.array([below], np.int64), np.array([ANY_VERSION], np.uint64))
        (below,) = segment.find_last([name.image_id], asked, bounds)
        if below < 0:
            return found
        found.append(below)


def renamed_entries(segment: Segment, names: Sequence[Name]) -> dict[int, ImageId]:
    """The pseudonyms of a segment's entries."""
    return {entry: name.pseudonym for name in names for entry in entries_of(segment, name)}
