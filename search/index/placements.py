"""What a record meets: which versions of its image were placed, and where. Pure."""

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
    """Which part of the index holds it, counted from the oldest."""
    entry: int
    """Its number there."""


@dataclass(frozen=True, slots=True)
class Met:
    """What a record meets at its offset."""

    placement: Placement | None
    """Of its version, placed at its offset or before; None when the version was never placed."""
    superseded: bool
    """A higher version was placed before."""


def meet(placements: Sequence[Placement], version: int, offset: int) -> Met:
    """What the record of a version at an offset meets; the same for ever once the offset was applied.

    Args:
        placements: Of the record's image, in order of place.
        version: Of the record.
        offset: Of the record; versions placed behind it do not count.
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
