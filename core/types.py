"""The records that travel between the parts: ids, positions in the order, candidates, memberships and decisions.

Everything here is frozen and plain: named tuples where a batch makes thousands (they are made five times faster than
frozen dataclasses), dataclasses elsewhere. The module imports nothing of ours but other plain words, so search, storage
and operators can share it.

Words used throughout (`docs/glossary.md` has all of them):

position
    The number of a record in the one order of everything that happens. It starts at 0 and never starts again. Fields
    named `offset` hold positions, except where a module says that it reads or writes Kafka.
log epoch
    One topic `joined`, by Kafka's topic id, and its base: the position of its offset 0. A position is base + offset.
    The first topic has base 0; a renewed one begins after the last position that was applied.
place
    The position of the *first* record of an image version. It never changes. "Before" and "older" compare places.
head
    The image that names a cluster. It is also the cluster's first member.
founding code
    The score code that a head had when it founded its cluster. It is kept until the cluster is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType

from core.manifest_rows import MemberRow

ImageId = NewType("ImageId", str)
"""An image id that was checked: 1 to 256 bytes of UTF-8 (see `core.notifications.image_id`)."""

NO_OFFSET = -1
"""The position before the first record."""

NO_HEAD = ImageId("")
"""Where a deleted image moves to."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a store has applied the order, and which log epoch it follows.

    `log_id` is Kafka's topic id ("" before the first record), `offset` is the position of the last record applied (-1
    before the first), and `checksum` is the CRC-32C of that record's bytes. `base` is the position of the topic's
    first offset, 0.
    """

    log_id: str = ""
    offset: int = NO_OFFSET
    checksum: int = 0
    base: int = 0

    @property
    def began(self) -> bool:
        """Whether a record of this log epoch was applied; else `checksum` is that of a record of an earlier one."""
        return self.offset >= self.base


class Candidate(NamedTuple):
    """An image that shares terms with the query.

    `score_code` is what the classifier compares; `overlap` is the number of shared terms.
    """

    image_id: ImageId
    place: int
    overlap: int
    score_code: bytes
    distance: int | None = None
    """Differing bits of its code and the query's; None: not measured, so that the order is by overlap alone."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The scores from which the cluster rule acts. They come with the model, never from settings."""

    accept: float
    head_accept: float
    adopt: float


class Membership(NamedTuple):
    """What storage knows of one image: version, place, head."""

    image_id: ImageId
    version: int
    place: int
    head: ImageId


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the cluster rule needs to know of a cluster."""

    head: ImageId
    count: int
    """The number of members, the head included; 1 is a singleton."""
    founding_code: bytes
    head_deleted: bool = False
    """The head was deleted. It still names the cluster, but `count` leaves it out."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a deleted image. It goes when a version above `version` begins a new life."""

    image_id: ImageId
    version: int
    """Versions up to this one are ignored."""
    position: int
    """Of the record that deleted it."""
    deleted_at_ms: int
    """When the delete was asked for, in milliseconds since the epoch."""
    author: str = ""
    reason: str = ""


class LastVerdict(NamedTuple):
    """What storage holds of the last verdict on an image, beside its head: a replay compares with it."""

    cause: Cause
    score: float | None
    matched: ImageId | None
    versions: Versions
    unscored: bool = False
    """The version could not be searched or scored, so the index hides it, or will."""


class ImageRules(NamedTuple):
    """What overrides say of one image (`core.overrides`)."""

    pinned_to: ImageId | None = None
    """It belongs to the cluster of this image."""
    forbidden: tuple[ImageId, ...] = ()
    """It never shares a cluster with these."""
    followers: tuple[ImageId, ...] = ()
    """These are pinned to it."""


class RequestSource(NamedTuple):
    """One partition of the topic `replay`, by Kafka's topic id. Its requests are applied in their order."""

    topic_id: str
    partition: int


class RequestPosition(NamedTuple):
    """Where one request lies in the topic `replay`."""

    source: RequestSource
    offset: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """An answer of storage: memberships and clusters, all as of one position and one revision.

    `clusters` has an entry for the head of every membership, and for each deleted image that still names a cluster.
    Unknown images are absent; deleted ones have a tombstone and no membership. `verdicts` has the images whose verdicts
    were asked for.
    """

    position: LogPosition
    revision: int
    memberships: Mapping[ImageId, Membership] = field(default_factory=dict)
    clusters: Mapping[ImageId, Cluster] = field(default_factory=dict)
    tombstones: Mapping[ImageId, Tombstone] = field(default_factory=dict)
    verdicts: Mapping[ImageId, LastVerdict] = field(default_factory=dict)
    requests: Mapping[RequestSource, int] = field(default_factory=dict)
    """The offset of the last request that was applied, of each partition of `replay`."""
    rules: Mapping[ImageId, ImageRules] = field(default_factory=dict)
    """Of the images asked for that an override names. An image that is forbidden is left out where it cannot matter:
    it was not asked for, and is in none of `clusters`, nor in that of a pin's target; or another one that is named is
    in the same cluster."""
    rule_heads: Mapping[ImageId, ImageId] = field(default_factory=dict)
    """The heads of the images that these rules forbid, or pin to; unknown ones are absent."""


class Outcome(StrEnum):
    """What happened to one record of the order."""

    DECIDED = "decided"
    DUPLICATE = "duplicate"
    """The same image version was placed, or the same request was applied, before. The record is ignored and counted."""
    SUPERSEDED = "superseded"
    """A higher version was placed, or this one was deleted, before. The record is ignored and counted."""
    UNREADABLE = "unreadable"
    """The record names no image, so its id is empty here. It is in `dead-letter`; only the position advances."""
    DELETED = "deleted"
    """The record deletes the image; without moves there was nothing to delete."""
    REPLAYED = "replayed"
    """The record asks for the image again; without moves nothing has changed."""


class Cause(StrEnum):
    """Why an image has the head that it has."""

    FOUNDED = "founded"
    """No earlier image matched and accepted it, so it is its own head."""
    MATCHED = "matched"
    """It joined the head of the match that is named with it."""
    ADOPTED = "adopted"
    """It was a singleton, and moved to the cluster that a later image joined."""
    KEPT = "kept"
    """It is a new version of a head that has members, so it stays the head."""
    UNSCORED = "unscored"
    """It could not be searched or scored. It is its own head, and a dead letter holds the reason."""
    DELETED = "deleted"
    """It was deleted: it has no head any more."""
    PINNED = "pinned"
    """An override says that it belongs to the cluster of the image that is named with it."""
    PARTED = "parted"
    """An override took it out of its cluster, so it is its own head."""
    RENAMED = "renamed"
    """The head of its cluster was forgotten, and the cluster has another head."""
    BOOTSTRAPPED = "bootstrapped"
    """A manifest says so, by the head that it names; this is where that head was when the image came."""
    FORGOTTEN = "forgotten"
    """Of a history entry alone: it was about an image that was forgotten, and nothing but its number is left."""


class Trigger(StrEnum):
    """What moved an image."""

    STREAM = "stream"
    """A record of the order."""
    OVERRIDE = "override"
    """Somebody, by an override."""
    ROLLBACK = "rollback"
    """Somebody, who rolled back to an earlier time."""
    MANIFEST = "manifest"
    """A manifest: a first load, or a row of a later one, which is a record of the order."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The model and the index that a verdict was made with."""

    model: str = ""
    index: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """One image moves from one head to another. Both may be equal.

    `old_head` is None for a new image, `new_head` is `NO_HEAD` for a deleted one.
    """

    image_id: ImageId
    old_head: ImageId | None
    new_head: ImageId
    cause: Cause
    score: float | None = None
    matched: ImageId | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What one record of the order has written, and what storage held before it."""

    before: Lookup
    """Of the images that were asked for; if the record moved nothing, as of now."""
    first_number: int = 0
    """Of its history entries; 0: it moved nothing."""
    moves: tuple[Move, ...] = ()
    """The image's own first, unless only others moved."""
    version: int = 0
    place: int = NO_OFFSET
    decided_at_ms: int = 0


class DeadLetterRecord(NamedTuple):
    """A record for the topic `dead-letter`: key, value, and the header `traceparent` (empty: none)."""

    key: bytes
    value: bytes
    traceparent: bytes = b""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one record of the order does to storage: all of it or nothing.

    `moves[0]` is the image's own move; the moves of the singletons that it adopts follow, then those of the images that
    are pinned to it. An ignored record has no moves and no vectors, it only advances the position. A replay has only
    the moves that change something, and vectors only if it changes the place. Vectors are the little-endian bytes of
    the notification. Times are milliseconds since the epoch.
    """

    offset: int
    checksum: int
    outcome: Outcome
    image_id: ImageId
    version: int
    place: int
    moves: tuple[Move, ...] = ()
    score_code: bytes = b""
    search_vector: bytes = b""
    score_vector: bytes = b""
    versions: Versions = Versions()
    created_at_ms: int = 0
    arrived_at_ms: int = 0
    decided_at_ms: int = 0
    truncated: bool = False
    """The search reached `max_postings`: younger images of long posting lists were no candidates."""
    dead_letter: DeadLetterRecord | None = None
    """The dead letter of a record that could not be read, searched or scored. It is stored with the decision and
    published from there, so that neither is ever there without the other."""
    tombstone: Tombstone | None = None
    """What a delete leaves behind."""
    request: RequestPosition | None = None
    """The request that a replay answers; storage keeps that it was applied."""
    forget: bool = False
    """The delete shall leave nothing of the image. If it names a cluster, storage gives the cluster another head."""
    member: MemberRow | None = None
    """The row of a manifest that the record is, and what became of it. Storage counts each row once."""
