"""What the index knows of a record's image: which versions were placed, and where. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from search.index.columns import Kind

__all__ = ["Met", "Placement", "latest_before", "meet"]


@dataclass(frozen=True, slots=True)
class Placement:
    """One placed version of an image. Versions of one image are placed in ascending order only."""

    place: int
    version: int
    kind: Kind
    source: int
    """The number of the source that holds it; the oldest is 0."""
    entry: int
    """Its entry number in that source."""


@dataclass(frozen=True, slots=True)
class Met:
    """What the index knows at a record's offset."""

    placement: Placement | None
    """The placement of its version, at its offset or before; None when the version was never placed."""
    superseded: bool
    """A higher version was placed before."""


def meet(placements: Sequence[Placement], version: int, offset: int) -> Met:
    """What the index knows for a record of a version at an offset. It never changes once the offset was applied.

    Args:
        placements: Those of the record's image, in order of place.
        version: The record's version.
        offset: The record's offset; versions placed after it do not count.
    """
    superseded = False
    for one in reversed(placements):
        if one.version < version:
            break
        if one.place <= offset:
            if one.version == version:
                return Met(one, superseded)
            superseded = True
    return Met(None, superseded)


def latest_before(placements: Sequence[Placement], place: int) -> Placement | None:
    """The version placed last before a place: the only one that a search as of that place could find."""
    return next((one for one in reversed(placements) if one.place < place), None)
