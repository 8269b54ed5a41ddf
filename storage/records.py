"""The records of a store: images, clusters, embeddings, history, and the state of the store itself.

Times are milliseconds since the epoch. A *sequence* says when an image joined its cluster, among all that ever joined
one. The members of a cluster are listed by it, so the head, which founded the cluster, comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, Literal, NamedTuple, TypeVar

from core.first_loads import LoadRequest, LoadState
from core.manifest_rows import RowResult
from core.types import Cause, ImageId, LogPosition, RequestSource, Tombstone, Trigger, Versions

__all__ = [
    "ClusterRecord",
    "DeltaProgress",
    "Edge",
    "EmbeddingRecord",
    "EndedCluster",
    "EraseCursor",
    "EraseStep",
    "Erasure",
    "ErasureState",
    "FirstLoad",
    "Heads",
    "HistoryEntry",
    "ImageRecord",
    "Mend",
    "Page",
    "PublishedMark",
    "RowExample",
    "StoreEpoch",
    "StoreState",
    "Touched",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """The last verdict on an image, and the key of its edge."""

    image_id: ImageId
    version: int
    place: int
    head: ImageId
    score: float | None
    matched: ImageId | None
    cause: Cause
    decided_at_ms: int
    created_at_ms: int
    arrived_at_ms: int
    versions: Versions
    edge_sequence: int
    truncated: bool = False
    """The search that led to the verdict reached `max_postings`."""
    unscored: bool = False
    """This version could not be searched or scored, so the index hides it, also after another image adopted it."""


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """A cluster. It is kept under its head until it is empty."""

    head: ImageId
    count: int
    """The number of members, the head included, unless it was deleted."""
    founding_code: bytes
    founded_at_ms: int
    head_deleted: bool = False
    """The head was deleted, and others are still members. It names the cluster, and is no member any more."""


class EndedCluster(NamedTuple):
    """A cluster as it was before a history entry that emptied it, or gave it another founding code."""

    number: int
    """Of that entry."""
    cluster: ClusterRecord


class ErasureState(IntEnum):
    """How far an image that was forgotten is erased."""

    WAITING = 0
    """Its last changes may not be published yet."""
    RUNNING = 1
    """What mentions it is written anew."""
    CLEARED = 2
    """No record has its id any more, and the files may still."""
    DONE = 3


@dataclass(frozen=True, slots=True)
class Erasure:
    """An image that was forgotten, under its pseudonym."""

    pseudonym: ImageId
    image_id: ImageId
    """Until no other record has it; then `NO_HEAD`."""
    through: int
    """The number of the last history entry of its forgetting. Later ones are of a new life."""
    position: int
    """Of the record that asked for it."""
    forgotten_at_ms: int
    state: ErasureState = ErasureState.WAITING
    erased_at_ms: int = 0
    """When nothing was left of it in the store and in its files; 0: not yet."""


class EraseCursor(NamedTuple):
    """How far the images are erased that are erased at present."""

    step: Literal["own", "history", "images"]
    """Their own entries; entries that mention them; images that matched them."""
    number: int
    """Entries after this one may mention them."""
    image_id: str = ""
    """Images after this one may have matched them."""


@dataclass(slots=True)
class Touched:
    """Of which records old versions may lie in the files, and have an id or a vector that was forgotten."""

    ids: set[ImageId] = field(default_factory=set)
    """All that is kept under these ids."""
    images: set[ImageId] = field(default_factory=set)
    """Images whose records mentioned one of them."""
    numbers: set[int] = field(default_factory=set)
    """History entries."""
    places: set[int] = field(default_factory=set)
    edges: set[tuple[ImageId, int]] = field(default_factory=set)
    """Head and sequence."""
    kept_from: int = 1
    """History before this number was swept."""


@dataclass(frozen=True, slots=True)
class EraseStep:
    """What one step has found. The store reads it again under its writer's lock, since it may have changed."""

    running: Mapping[ImageId, Erasure]
    """The images that are erased."""
    cursor: EraseCursor | None
    blanks: tuple[int, ...] = ()
    mentions: tuple[int, ...] = ()
    images: tuple[ImageId, ...] = ()
    ended: tuple[tuple[ImageId, int], ...] = ()
    dead_letters: tuple[int, ...] = ()
    erasures: tuple[Erasure, ...] = ()
    """As they are after the step."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One image is a member of one cluster."""

    head: ImageId
    sequence: int
    member: ImageId


@dataclass(frozen=True, slots=True)
class EmbeddingRecord:
    """The embeddings of the latest version of an image. An index is rebuilt from all of them, by place.

    Vectors are the little-endian bytes of the notification, float16 or float32 by their length. The score code is what
    the classifier compares. A part is empty where the image could not be searched or scored.
    """

    place: int
    image_id: ImageId
    version: int
    score_code: bytes
    search_vector: bytes
    score_vector: bytes


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One move of one image. Numbers start at 1 and have no gaps.

    `offset` is the record of the order that caused the move. Place, version, creation and arrival are those of the
    image that moved. For an adopted image they are older than the record that moved it. A deleted image has the new
    head `NO_HEAD`.
    """

    number: int
    image_id: ImageId
    old_head: ImageId | None
    new_head: ImageId
    cause: Cause
    score: float | None
    matched: ImageId | None
    place: int
    offset: int
    version: int
    decided_at_ms: int
    created_at_ms: int
    arrived_at_ms: int
    versions: Versions
    truncated: bool = False
    """The search that caused the move reached `max_postings`."""
    trigger: Trigger = Trigger.STREAM
    reference: int = 0
    """The number of the override that moved it; of a record of the order 0, since `offset` names it."""
    ahead: int = 0
    """By how much the sequence of the image is above the number of the entry: see `StoreState.ahead`."""

    @property
    def sequence(self) -> int:
        """By which the image joined the new head, unless that is the old one too."""
        return self.number + self.ahead

    @property
    def is_of_order(self) -> bool:
        """Whether the record of the order at `offset` made it, or a first load. Else people did."""
        return self.trigger in (Trigger.STREAM, Trigger.MANIFEST)


@dataclass(frozen=True, slots=True)
class StoreEpoch:
    """Which life of a store a history number belongs to: numbers begin again with a new or a restored store.

    Readers of `assignments` order by epoch, then number.
    """

    created_ms: int
    """When the epoch began, raised above every epoch that was published before. Milliseconds since 1970."""
    store_id: str
    """A random id."""
    first: int = 1
    """The first history number that is published in it."""


@dataclass(frozen=True, slots=True)
class FirstLoad:
    """The manifest that a store began with. Its images have the history entries from 1 to their number.

    Row r has the place r. All of them were decided at one time, when the load was asked for.
    """

    manifest_id: str
    folder: str
    """Where the manifest lies, as somebody named it."""
    manifest: str
    """Its name, in that folder."""
    rows: int
    images: int
    """Rows that a later one of the same image takes the place of are none."""
    clusters: int
    started_ms: int
    ended_ms: int
    """When it was checked and whole."""

    @property
    def last_number(self) -> int:
        """The number of its last history entry."""
        return self.images


class RowExample(NamedTuple):
    """A row of a manifest of which something else became than it says."""

    row: int
    image_id: ImageId
    result: RowResult


@dataclass(frozen=True, slots=True)
class DeltaProgress:
    """How far a manifest is whose rows go through the order, after the first load: see `storage.delta_progress`."""

    request: LoadRequest
    """Of a manifest that the store knows by its rows alone, since it was built again: the id, and nothing else."""
    state: LoadState
    detail: str = ""
    rows: int = 0
    """0: the manifest was not read yet."""
    applied: int = -1
    """The last row that was applied, as far as the order goes; -1: none."""
    counts: Mapping[RowResult, int] = field(default_factory=dict)
    """What became of the rows."""
    examples: tuple[RowExample, ...] = ()
    """The first rows of which something else became than they say."""
    started_ms: int = 0
    ended_ms: int = 0
    """When the last row was applied, or nothing more is written; 0: not yet."""


@dataclass(frozen=True, slots=True)
class PublishedMark:
    """The last acknowledged message of `assignments`, and where it lies, so that a loss shows.

    From `run_offset` on, the messages are in order: each number comes only after the one before it. What lies between
    the base and `run_offset` may not be: for example, a topic that lost its end got later numbers first.
    """

    topic_id: str
    """Kafka's id of the topic; empty if the broker does not tell."""
    number: int
    offset: int
    run_offset: int
    base_number: int = 0
    """All entries up to this number lie in the topic up to `base_offset`."""
    base_offset: int = -1
    """The offset of the message of `base_number`; -1: none."""


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store at one moment: its position, and its counts."""

    position: LogPosition = field(default_factory=LogPosition)
    revision: int = 0
    """Incremented by every write that is not the stream's."""
    images: int = 0
    clusters: int = 0
    history_number: int = 0
    """The number of the last history entry; 0 before the first."""
    duplicates: int = 0
    superseded: int = 0
    deleted: int = 0
    """How many images were deleted, those that came back included."""
    replayed: int = 0
    tombstones: int = 0
    requests: Mapping[RequestSource, int] = field(default_factory=dict)
    """The offset of the last request applied, of each partition of `replay`."""
    kinds: frozenset[str] = frozenset()
    """The kinds of records of the order that the job knows which wrote last."""
    required: frozenset[str] = frozenset()
    """The kinds that a job must know. A writer requires a kind before its first record of it."""
    overrides: int = 0
    """The number of the last override that was applied; 0: none."""
    requeued: int = 0
    """The number of the last undo whose images were sent to be decided again; 0: none."""
    ahead: int = 0
    """By how much the sequence of the next edge is above the number of its history entry. Sequences of a bulk move are
    taken when it is planned, and its entries are written later."""
    history_first: int = 1
    """The number of the first history entry that is kept."""


class Mend(NamedTuple):
    """One thing that may be damaged, and that the images may mend (`storage.mending`)."""

    what: Literal["image", "cluster", "embeddings", "tombstone", "count"]
    name: str = ""
    """The image, the head, or what is counted."""
    number: int = 0
    """The place of embeddings, or by how much a count is too low."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The heads of some images, all as of one position and one revision.

    Unknown images are absent; deleted ones have a tombstone and no head.
    """

    position: LogPosition
    revision: int
    heads: Mapping[ImageId, ImageId]
    tombstones: Mapping[ImageId, Tombstone]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items in order, and the token of the next page (None on the last)."""

    items: tuple[T, ...]
    next_token: str | None = None
