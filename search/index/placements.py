"""What the index knows of a record's image: which versions were placed, and where. Pure.

Versions of one image never descend with their places. A delete may have the version of the placement before it, as may
a replay that places a version anew. Whatever is asked about an image is then answered by its last placement within two
bounds, which is found without looking at the others: an image may have millions of versions.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.types import ImageId
from search.index.columns import Kind

__all__ = ["ANY_PLACE", "ANY_VERSION", "FindLast", "Met", "Placement", "PlacementsOfCall", "meet"]

ANY_PLACE = 2**63 - 1
"""A bound that every place is below."""

ANY_VERSION = 2**64 - 1
"""The highest version."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One placed version of an image. Versions of one image never descend with their places."""

    place: int
    version: int
    kind: Kind
    source: int
    """The number of the source that holds it; the oldest is 0."""
    entry: int
    """Its entry number in that source."""


FindLast = Callable[[ImageId, int, int], Placement | None]
"""Finds the last placement of an image before a place, of at most a version."""


@dataclass(frozen=True, slots=True)
class Met:
    """What the index knows at a record's offset."""

    placement: Placement | None
    """The placement of its version, at its offset or before; None when the version was never placed."""
    superseded: bool
    """A higher version was placed before."""


def meet(last: FindLast, image_id: ImageId, version: int, offset: int) -> Met:
    """What the index knows for a record of a version at an offset. It never changes once the offset was applied.

    Args:
        last: Finds placements.
        image_id: The record's image.
        version: The record's version.
        offset: The record's offset; versions placed after it do not count.
    """
    newest = last(image_id, offset + 1, ANY_VERSION)
    if newest is None or newest.version < version:
        return Met(None, superseded=False)
    if newest.version == version:
        return Met(newest, superseded=False)
    own = last(image_id, offset + 1, version)
    return Met(own if own is not None and own.version == version else None, superseded=True)


class PlacementsOfCall:
    """The placements of the images of one call: the newest from before it, those that it adds, and all others."""

    def __init__(self, before: Mapping[ImageId, Placement | None], others: FindLast) -> None:
        """Starts without any that the call adds.

        Args:
            before: The newest placement of each image before the call.
            others: Finds any placement from before the call.
        """
        self._before = before
        self._others = others
        self._added: dict[ImageId, list[Placement]] = {}

    def newest(self, image_id: ImageId) -> Placement | None:
        """The last placement, which has the highest version."""
        added = self._added.get(image_id)
        return added[-1] if added else self._before[image_id]

    def add(self, image_id: ImageId, placement: Placement) -> None:
        """Adds a placement at a later place, of a version that is not lower."""
        self._added.setdefault(image_id, []).append(placement)

    def last(self, image_id: ImageId, before: int, version: int) -> Placement | None:
        """See `FindLast`."""
        added = self._added.get(image_id)
        if added:
            count = min(
                bisect_left(added, before, key=lambda one: one.place),
                bisect_right(added, version, key=lambda one: one.version),
            )
            if count:
                return added[count - 1]
        newest = self._before[image_id]
        if newest is None or (newest.place < before and newest.version <= version):
            return newest
        return self._others(image_id, before, version)
