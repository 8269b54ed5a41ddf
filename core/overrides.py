"""Overrides: what people say about images. No record of the order, replay or rebuild undoes them.

    pin      the images belong to the cluster of the target image, wherever it goes
    forbid   the images never share a cluster with the target image
    split    the images leave the cluster of the target, its head, and form one of their own
    merge    the clusters of the images go into the cluster of the target, for ever
    rollback the images go back to the heads that they had at an earlier moment
    undo     an earlier override ends

The storage server keeps them in the order of their numbers, which start at 1 and have no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from core.delete_requests import FORGET_KIND
from core.notifications import RECORD_KINDS
from core.types import NO_OFFSET, Cause, ImageId

__all__ = [
    "JOB_KINDS",
    "MAX_FOLLOWERS",
    "MAX_FORBIDDEN",
    "MAX_IMAGES",
    "MEMBER_KIND",
    "OVERRIDE_KIND",
    "ChangeFilter",
    "ListedOverride",
    "NewImages",
    "Override",
    "OverrideKind",
    "OverrideMove",
    "OverrideOutcome",
    "OverrideRequest",
    "Point",
    "Rollback",
    "RollbackRequest",
]

OVERRIDE_KIND = "override"
"""What a job must know, beside the kinds of records of the order, once there is an override."""

MEMBER_KIND = "member"
"""The kind of the records that rows of a manifest become, as `JoinedRecord` names it."""

JOB_KINDS = (*RECORD_KINDS, OVERRIDE_KIND, FORGET_KIND)
"""What a job of this release knows."""

MAX_IMAGES = 100_000
"""The most images of one override; a forbid has at most `MAX_FORBIDDEN`."""

MAX_FORBIDDEN = 1_000
"""The most images of one forbid, and the most images of each relation to one image that a look-up brings."""

MAX_FOLLOWERS = 1_000_000
"""The most images that are pinned to one image."""


class OverrideKind(StrEnum):
    """What an override says."""

    PIN = "pin"
    FORBID = "forbid"
    SPLIT = "split"
    MERGE = "merge"
    ROLLBACK = "rollback"
    UNDO = "undo"


class NewImages(StrEnum):
    """What a rollback does with images that came after the moment that it goes back to."""

    DECIDE = "decide"
    """Each becomes its own head, and is decided again."""
    KEEP = "keep"
    """Each keeps its head, wherever that one goes."""


class Point(NamedTuple):
    """A moment between two writes, by what was applied before it."""

    position: int = NO_OFFSET
    """Of the last record of the order."""
    override: int = 0
    """The number of the last override, if it was applied after that record."""


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes a rollback is about: those that have all of what is set."""

    model: str | None = None
    """The version of the model that decided it."""
    head: ImageId | None = None
    """The image left this head, or came to it."""
    cause: Cause | None = None


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """What somebody wants to go back to: a time or a change."""

    to_ms: int | None = None
    """Milliseconds since the epoch, by the clock of storage."""
    to_change: int | None = None
    """The number of the last history entry that stays."""
    since_ms: int | None = None
    """Only images that changed after this time too."""
    where: ChangeFilter = ChangeFilter()
    new: NewImages = NewImages.DECIDE


@dataclass(frozen=True, slots=True)
class Rollback:
    """To which moment images go back, and which ones: those that have changed since, by a change that counts."""

    to: Point
    since: Point
    """Only changes after this moment count."""
    where: ChangeFilter
    new: NewImages
    of: int = 0
    """Only the changes that the override of this number made count; 0: those of all."""
    until: Point | None = None
    """Changes after this moment do not count: a long rollback is planned while others are made. None: all do."""


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
    rollback: RollbackRequest | None = None


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
    rollback: Rollback | None = None
    """Of a rollback, and of the undo of one."""


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
