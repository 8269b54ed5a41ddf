"""Overrides: what people say about images. No record of the order, replay or rebuild undoes them.

    pin      the images belong to the cluster of the target image, wherever it goes
    forbid   the images never share a cluster with the target image
    split    the images leave the cluster of the target, its head, and form one of their own
    merge    the clusters of the images go into the cluster of the target, for ever
    undo     an earlier override ends

The storage server keeps them in the order of their numbers, which start at 1 and have no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.notifications import RECORD_KINDS
from core.types import ImageId

__all__ = [
    "JOB_KINDS",
    "MAX_IMAGES",
    "OVERRIDE_KIND",
    "ListedOverride",
    "Override",
    "OverrideKind",
    "OverrideMove",
    "OverrideOutcome",
    "OverrideRequest",
]

OVERRIDE_KIND = "override"
"""What a job must know, beside the kinds of records of the order, once there is an override."""

JOB_KINDS = (*RECORD_KINDS, OVERRIDE_KIND)
"""What a job of this release knows."""

MAX_IMAGES = 1_000
"""The most images of one override, and the most images that overrides relate one image to."""


class OverrideKind(StrEnum):
    """What an override says."""

    PIN = "pin"
    FORBID = "forbid"
    SPLIT = "split"
    MERGE = "merge"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class OverrideRequest:
    """What somebody wants to say."""

    kind: OverrideKind
    images: tuple[ImageId, ...] = ()
    target: ImageId | None = None
    undoes: int = 0
    """The number of the override that an undo ends; 0 in all others."""
    author: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """What somebody has said."""

    number: int
    kind: OverrideKind
    images: tuple[ImageId, ...]
    """Of a split, the one that names the new cluster comes first. Of a merge, the heads of the clusters that went."""
    target: ImageId | None
    undoes: int
    author: str
    reason: str
    at_ms: int
    """Milliseconds since the epoch."""
    applied_after: int
    """The position of the last record of the order that was applied before it."""
    asked: str = ""
    """A fingerprint of the request, by which it is known when it comes again: a merge names other images than it."""


@dataclass(frozen=True, slots=True)
class OverrideMove:
    """One image that an override moves."""

    image_id: ImageId
    old_head: ImageId
    new_head: ImageId


@dataclass(frozen=True, slots=True)
class OverrideOutcome:
    """An override, and what it moved, or would move."""

    override: Override
    moves: tuple[OverrideMove, ...]
    created: bool
    """False: it was said before, or the call was a dry run. Nothing was written."""
    unlisted: int = 0
    """Further moves that a server leaves out of its answer."""


@dataclass(frozen=True, slots=True)
class ListedOverride:
    """An override, and how it stands."""

    override: Override
    undone_by: int | None
    """The number of the undo that ended it."""
    waits: bool
    """The store is built again from the order, and has not reached `applied_after` yet."""
