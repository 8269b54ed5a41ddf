"""The records that travel between the parts: ids, positions in the order, candidates, memberships and decisions.

Everything here is frozen and plain: named tuples where a batch makes thousands (they are made five times faster than
frozen dataclasses), dataclasses elsewhere. The module imports nothing of ours, so that search, storage and
operators can share it.

Words used throughout:

offset
    The position of a record in `joined`, the one order of everything that happens. Starts at 0.
place
    The offset of the *first* record of one image version. It never changes; all "before" and "older" mean places.
head
    The image that names a cluster, and the first member of it.
standing
    Where storage says an image stands: its version, place and head.
founding code
    The score code a head had when it founded its cluster. It stays until the cluster is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, NewType

ImageId = NewType("ImageId", str)
"""An image id that was checked: 1 to 256 bytes of UTF-8 (see `core.notifications.image_id`)."""

NO_OFFSET = -1
"""The offset of a log of which nothing was applied yet."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a store has applied the order.

    `log_id` is Kafka's topic id ("" before the first record), `offset` the last record applied (NO_OFFSET
    before the first) and `checksum` the CRC-32C of that record's bytes.
    """

    log_id: str = ""
    offset: int = NO_OFFSET
    checksum: int = 0


class Candidate(NamedTuple):
    """An image that shares terms with the one searched for.

    `score_code` are the packed bytes the classifier compares; `overlap` counts the shared terms.
    """

    image_id: ImageId
    place: int
    overlap: int
    score_code: bytes


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The probabilities at which a score means something; they come with the model, never from settings."""

    accept: float
    head_accept: float
    adopt: float


class Membership(NamedTuple):
    """Where storage says an image stands."""

    image_id: ImageId
    version: int
    place: int
    head: ImageId


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the cluster rule needs to know of a cluster: its head, how many members, the founding code."""

    head: ImageId
    count: int
    """Members, the head included; 1 is a singleton."""
    founding_code: bytes


@dataclass(frozen=True, slots=True)
class Lookup:
    """A consistent answer of storage: memberships and clusters as of one offset and one override revision.

    `clusters` holds an entry for the head of every standing. Unknown images are absent.
    """

    position: LogPosition
    revision: int
    memberships: Mapping[ImageId, Membership] = field(default_factory=dict)
    clusters: Mapping[ImageId, Cluster] = field(default_factory=dict)


class Outcome(StrEnum):
    """What became of one record of the order."""

    DECIDED = "decided"
    DUPLICATE = "duplicate"
    """The same image version was placed before: ignored, counted."""
    SUPERSEDED = "superseded"
    """A version below the one already placed: ignored, counted."""
    UNREADABLE = "unreadable"
    """A record that names no image (its id is empty here): it lies in the dead letters, the order goes on behind it."""


class Cause(StrEnum):
    """Why an image has the head that it has."""

    FOUNDED = "founded"
    """Nothing before it matched and accepted it: its own head."""
    MATCHED = "matched"
    """It joined the head of the match named beside it."""
    ADOPTED = "adopted"
    """It was a singleton and moved when a later image joined its match (law 6)."""
    KEPT = "kept"
    """A new version of a head that has members: it stays the cluster's name."""
    UNSCORED = "unscored"
    """Search or scorer could not take it; its own head, with a dead letter that can be replayed."""


@dataclass(frozen=True, slots=True)
class Versions:
    """What a verdict was made with."""

    model: str = ""
    index: str = ""


@dataclass(frozen=True, slots=True)
class Move:
    """One image goes from one head to another (`old_head` is None for a new image; the two may be equal)."""

    image_id: ImageId
    old_head: ImageId | None
    new_head: ImageId
    cause: Cause
    score: float | None = None
    matched: ImageId | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What one record of the order does to storage: all of it or nothing.

    `moves[0]` is the image's own move; the singletons that it makes move follow. A ignored record has no moves and
    no vectors, it only advances the position. Vectors are the little-endian bytes of the notification.
    Times are milliseconds since the epoch.
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
    """The search reached the bound on its work: younger images of long posting lists were no candidates."""
