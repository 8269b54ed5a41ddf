"""From moves to writes: what each move of a decision changes, on top of the decisions before it.

Each move says which image goes from which head to which. The writes follow from it:

    the new head is the image itself    the cluster is created, with the decision's score code as founding code
    the new head is another image       the edge is written there, the count grows by one
    the old head is another image       the edge there is deleted, the count shrinks by one
    the image leaves as a singleton     its edge and its cluster are deleted
    the head stays the same             the edge stays; a singleton that founds anew takes the new founding code,
                                        a head with members (cause `kept` or `unscored`) keeps the old one
    there is no new head (`deleted`)    image, edge and embeddings are deleted; the cluster of a head with members
                                        stays, flagged, and its count leaves the head out
    a deleted head comes back           the flag goes, the founding code stays
    a flagged cluster gets empty        it is deleted
    the head is forgotten               `storage.forgetting` gives the cluster another one

A move that does not fit what the store holds is a contradiction; then nothing of the batch is written. Every move gets
a history entry. Entries are numbered from 1 without a gap. A cluster that gets empty, or another founding code, is kept
as it was before, so that it can come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, NoReturn, Protocol

from core.overrides import Override
from core.pseudonyms import Pseudonyms
from core.types import NO_HEAD, Cause, DeadLetterRecord, Decision, ImageId, Move, Outcome, Tombstone, Trigger
from storage.errors import ContradictionError
from storage.records import (
    ClusterRecord,
    DeltaProgress,
    EmbeddingRecord,
    EndedCluster,
    EraseCursor,
    Erasure,
    HistoryEntry,
    ImageRecord,
    StoreState,
)

__all__ = ["Changes", "Erased", "PlannedMove", "Reader", "StagedMoves", "contradict", "overridden", "renamed"]


class Reader(Protocol):
    """What staging reads of the store."""

    def image(self, image_id: ImageId) -> ImageRecord | None: ...

    def cluster(self, head: ImageId) -> ClusterRecord | None: ...

    def embedding(self, place: int) -> EmbeddingRecord | None: ...

    def tombstone(self, image_id: ImageId) -> Tombstone | None: ...

    def pseudonyms(self) -> Pseudonyms | None: ...

    def delta(self, manifest_id: str) -> DeltaProgress | None: ...


@dataclass(slots=True)
class Erased:
    """What is written anew, or goes, because images were forgotten."""

    entries: list[HistoryEntry] = field(default_factory=list)
    """In place of those of the same numbers."""
    unlisted: list[tuple[ImageId, int]] = field(default_factory=list)
    """History entries that are no longer those of an image."""
    ended: list[tuple[ImageId, int]] = field(default_factory=list)
    """Ended clusters, by head and number."""
    dead_letters: list[int] = field(default_factory=list)
    cursor: EraseCursor | None = None
    """None: what is erased at present is done."""


@dataclass(slots=True)
class Changes:
    """What to write, all of it or nothing. None deletes."""

    state: StoreState
    images: dict[ImageId, ImageRecord | None] = field(default_factory=dict)
    clusters: dict[ImageId, ClusterRecord | None] = field(default_factory=dict)
    edges: dict[tuple[ImageId, int], ImageId | None] = field(default_factory=dict)
    embeddings: dict[int, EmbeddingRecord | None] = field(default_factory=dict)
    tombstones: dict[ImageId, Tombstone | None] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    ended: list[tuple[ImageId, EndedCluster]] = field(default_factory=list)
    """Clusters that got empty, or another founding code, by their heads."""
    dead_letters: dict[int, DeadLetterRecord] = field(default_factory=dict)
    """By the offset of the record of the order."""
    deltas: dict[str, DeltaProgress] = field(default_factory=dict)
    """By the id of the manifest."""
    pseudonyms: Pseudonyms | None = None
    """The store's, if they are new."""
    erasures: dict[ImageId, Erasure] = field(default_factory=dict)
    """By pseudonym."""
    erased: Erased | None = None
    second: int | None = None
    """When the history entries are written, in seconds since the epoch; None: there are none."""
    renamed: int = 0
    """Images that get another head because theirs is forgotten, also those whose history is written ahead."""


class PlannedMove(NamedTuple):
    """One move that people have caused: the image as it is, and as it will be, apart from its sequence."""

    image: ImageRecord
    after: ImageRecord


class StagedMoves:
    """The changes of the moves so far; later moves see what earlier ones changed."""

    def __init__(self, reader: Reader, state: StoreState) -> None:
        """Takes the store's content and its state, which `changes` begins with."""
        self._reader = reader
        self._pseudonyms = reader.pseudonyms()
        self.changes = Changes(state)

    def count(self, **more: int) -> None:
        """Adds to counts of the state."""
        state = self.changes.state
        self.changes.state = replace(state, **{name: getattr(state, name) + by for name, by in more.items()})

    def move(self, decision: Decision, move: Move, own: bool) -> None:
        """Stages one move.

        Raises:
            ContradictionError: It does not fit what the store holds.
        """
        image = self.image(move.image_id)
        self._check(decision, move, image, own)
        if move.cause is Cause.BOOTSTRAPPED and move.matched is not None:
            move = replace(move, matched=self.told(move.matched))
        number = self._next_number()
        if image is not None and move.new_head == NO_HEAD:
            self._delete(image)
            self.changes.history.append(_entry(number, decision, move, image, self.changes.state.ahead))
            return
        if image is not None and image.head == move.new_head:
            sequence = image.edge_sequence
            self._stay(decision, move)
        else:
            sequence = number + self.changes.state.ahead
            if image is not None:
                self._leave(image)
            self._join(move.new_head, move.image_id, sequence, lambda head: _founded(decision))
        moved = _moved(decision, move, image, sequence, own)
        self.changes.images[move.image_id] = moved
        self.changes.history.append(_entry(number, decision, move, moved, self.changes.state.ahead))
        if image is None:
            self.count(images=1)

    def override(self, override: Override, image: ImageRecord, head: ImageId, cause: Cause, matched: ImageId) -> None:
        """Stages the move of one image by an override. It fits: who calls it has looked at what is staged.

        An image that becomes its own head founds its cluster with its own code.
        """
        embedding = self.embedding(image.place) if head == image.image_id else None
        code = b"" if embedding is None else embedding.score_code
        after = replace(image, head=head, score=None, matched=matched, cause=cause, decided_at_ms=override.at_ms)
        founding = ClusterRecord(image.image_id, 1, code, override.at_ms)
        self.place(override, PlannedMove(image, after), lambda head: founding)

    def place(self, override: Override, move: PlannedMove, founding: Callable[[ImageId], ClusterRecord]) -> None:
        """Stages a move by an override, or that the cluster of an image which stays has another founding code.

        Args:
            override: What moves it.
            move: It fits: who calls this has looked at what is staged.
            founding: The cluster of a head with one member, where there is none, or where it is founded anew.
        """
        image, after = move
        number = self._next_number()
        sequence = number + self.changes.state.ahead
        if after.head == image.head:
            sequence = image.edge_sequence
            self._found_anew(founding(image.head))
        else:
            self._leave(image)
            self._join(after.head, image.image_id, sequence, founding)
        matched = None if after.matched is None else self.told(after.matched)
        moved = replace(after, matched=matched, edge_sequence=sequence)
        self.changes.images[image.image_id] = moved
        self.changes.history.append(overridden(number, override, image.head, moved, self.changes.state))

    def rename(self, decision: Decision, image: ImageRecord, founded: ClusterRecord) -> None:
        """Stages the move of one image to the head that its cluster gets in place of a forgotten one."""
        moved, entry = renamed(decision, image, founded.head, self._next_number(), self.changes.state.ahead)
        self._leave(image)
        self._join(founded.head, image.image_id, entry.sequence, lambda head: founded)
        self.changes.images[image.image_id] = moved
        self.changes.history.append(entry)
        self.changes.renamed += 1

    def rename_rest(self, old_head: ImageId, founded: ClusterRecord) -> None:
        """Stages that a cluster has its new head and count, and that all of its history is written ahead.

        The new head has moved already.
        """
        if self._cluster(old_head) is not None:
            self.changes.clusters[old_head] = None
            self.count(clusters=-1)
        self.changes.clusters[founded.head] = founded
        self.count(history_number=founded.count - 1)
        self.changes.renamed += founded.count - 1

    def pseudonym(self, image_id: ImageId) -> ImageId:
        """The pseudonym of an image that is forgotten. The first one makes the store's key."""
        if self._pseudonyms is None:
            self._pseudonyms = self.changes.pseudonyms = Pseudonyms.fresh()
        return self._pseudonyms.of(image_id)

    def image(self, image_id: ImageId) -> ImageRecord | None:
        """An image; None: unknown or deleted."""
        changed = self.changes.images
        return changed[image_id] if image_id in changed else self._reader.image(image_id)

    def embedding(self, place: int) -> EmbeddingRecord | None:
        """The embeddings at a place."""
        changed = self.changes.embeddings
        return changed[place] if place in changed else self._reader.embedding(place)

    def delta(self, manifest_id: str) -> DeltaProgress | None:
        """How far a manifest is whose rows go through the order."""
        changed = self.changes.deltas
        return changed[manifest_id] if manifest_id in changed else self._reader.delta(manifest_id)

    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        """What is left of a deleted image."""
        name = self.tombstone_name(image_id)
        changed = self.changes.tombstones
        if name in changed:
            return changed[name]
        found = self._reader.tombstone(name)
        return found if found is not None and found.image_id == name else None

    def tombstone_name(self, image_id: ImageId) -> ImageId:
        """Under which name the tombstone of an image lies: that of a forgotten image under its pseudonym."""
        if self._pseudonyms is None:
            return image_id
        name, changed = self._pseudonyms.of(image_id), self.changes.tombstones
        there = changed[name] if name in changed else self._reader.tombstone(name)
        return image_id if there is None else name

    def told(self, image_id: ImageId) -> ImageId:
        """What a record may say for an image that somebody names: if it was forgotten, its pseudonym."""
        return image_id if self.image(image_id) is not None else self.tombstone_name(image_id)

    def cluster(self, head: ImageId) -> ClusterRecord | None:
        """A cluster by its head."""
        return self._cluster(head)

    def _check(self, decision: Decision, move: Move, image: ImageRecord | None, own: bool) -> None:
        current = None if image is None else image.head
        if move.old_head != current:
            contradict(decision, f"{move.image_id!r} leaves {move.old_head!r}, but its head is {current!r}")
        led = self._cluster(move.image_id) if current in (None, move.image_id) else None
        leads = led is not None and (led.head_deleted or led.count > 1)
        itself, gone = move.new_head == move.image_id, move.new_head == NO_HEAD
        if leads and not itself and not gone:
            members = 0 if led is None else led.count
            contradict(decision, f"{move.image_id!r} leaves, but it is a head of {members} members")
        if not itself and not gone and self._cluster(move.new_head) is None:
            contradict(decision, f"{move.new_head!r} is no head")
        fits = {
            Cause.FOUNDED: own and itself and not leads,
            Cause.UNSCORED: own and itself,
            Cause.KEPT: own and itself and leads,
            Cause.MATCHED: own and not itself and not gone,
            Cause.ADOPTED: not own and not itself and not gone and led is not None,
            Cause.DELETED: own and gone and image is not None and decision.outcome is Outcome.DELETED,
            Cause.PINNED: not itself and not gone,
            Cause.PARTED: False,  # an override alone
            Cause.RENAMED: False,  # a forgotten head alone
            Cause.BOOTSTRAPPED: own and not gone and not (itself and leads) and decision.member is not None,
            Cause.FORGOTTEN: False,
        }
        if not fits[move.cause]:
            contradict(
                decision,
                f"{move.cause} does not fit the move of {move.image_id!r} ({_led(led)}) to {move.new_head!r}",
            )

    def _stay(self, decision: Decision, move: Move) -> None:
        """The head stays the same; a singleton that founds its cluster anew takes the new founding code."""
        cluster = self._cluster(move.new_head)
        if move.new_head == move.image_id and cluster is not None and cluster.count == 1:
            self._end(cluster)
            self.changes.clusters[move.image_id] = _founded(decision)

    def _delete(self, image: ImageRecord) -> None:
        self._leave(image)
        self.changes.images[image.image_id] = None
        self.changes.embeddings[image.place] = None
        self.count(images=-1)

    def _leave(self, image: ImageRecord) -> None:
        self.changes.edges[image.head, image.edge_sequence] = None
        cluster = self._cluster(image.head)
        if cluster is None:
            raise ContradictionError(f"{image.image_id!r} has the head {image.head!r}, which has no cluster")
        if cluster.count == 1:
            self._end(cluster)
            self.changes.clusters[image.head] = None
            self.count(clusters=-1)
        else:
            flagged = cluster.head_deleted or image.head == image.image_id
            self.changes.clusters[image.head] = replace(cluster, count=cluster.count - 1, head_deleted=flagged)

    def _found_anew(self, founding: ClusterRecord) -> None:
        """The cluster has another founding code, and the members that it had."""
        cluster = self._cluster(founding.head)
        assert cluster is not None  # its head stays
        self._end(cluster)
        self.changes.clusters[founding.head] = replace(
            cluster, founding_code=founding.founding_code, founded_at_ms=founding.founded_at_ms
        )

    def _join(
        self, head: ImageId, image_id: ImageId, sequence: int, founding: Callable[[ImageId], ClusterRecord]
    ) -> None:
        self.changes.edges[head, sequence] = image_id
        cluster = self._cluster(head)
        if cluster is None:
            self.changes.clusters[head] = founding(head)
            self.count(clusters=1)
        else:
            flagged = cluster.head_deleted and head != image_id
            self.changes.clusters[head] = replace(cluster, count=cluster.count + 1, head_deleted=flagged)

    def _next_number(self) -> int:
        """The number of the next history entry."""
        self.count(history_number=1)
        return self.changes.state.history_number

    def _end(self, cluster: ClusterRecord) -> None:
        """Keeps a cluster as it was before the present history entry."""
        number = self.changes.state.history_number
        self.changes.ended.append((cluster.head, EndedCluster(number, cluster)))

    def _cluster(self, head: ImageId) -> ClusterRecord | None:
        return self.changes.clusters[head] if head in self.changes.clusters else self._reader.cluster(head)


def contradict(decision: Decision, why: str) -> NoReturn:
    """Says how a decision does not fit the store.

    Raises:
        ContradictionError: Always.
    """
    raise ContradictionError(f"the decision on {decision.image_id!r} at offset {decision.offset} does not fit: {why}")


def _led(cluster: ClusterRecord | None) -> str:
    if cluster is None:
        return "no head"
    return f"a deleted head of {cluster.count}" if cluster.head_deleted else f"a head of {cluster.count}"


def _founded(decision: Decision) -> ClusterRecord:
    return ClusterRecord(decision.image_id, 1, decision.score_code, decision.decided_at_ms)


def _moved(decision: Decision, move: Move, image: ImageRecord | None, sequence: int, own: bool) -> ImageRecord:
    """The image after its move. Its own decision brings a version and a place; an adoption changes the verdict alone.

    A version that is decided again keeps its times.
    """
    if image is None or own:
        version, place = decision.version, decision.place
        # An index that found an unscored image at its old place will hide it there yet.
        stays_hidden = image is not None and image.place == place and image.unscored
        unscored = move.cause is Cause.UNSCORED or stays_hidden
    else:
        version, place, unscored = image.version, image.place, image.unscored
    if image is None or image.version != version:
        created_at_ms, arrived_at_ms = decision.created_at_ms, decision.arrived_at_ms
    else:
        created_at_ms, arrived_at_ms = image.created_at_ms, image.arrived_at_ms
    return ImageRecord(
        image_id=move.image_id,
        version=version,
        place=place,
        head=move.new_head,
        score=move.score,
        matched=move.matched,
        cause=move.cause,
        decided_at_ms=decision.decided_at_ms,
        created_at_ms=created_at_ms,
        arrived_at_ms=arrived_at_ms,
        versions=decision.versions,
        edge_sequence=sequence,
        truncated=decision.truncated,
        unscored=unscored,
    )


def renamed(
    decision: Decision, image: ImageRecord, head: ImageId, number: int, ahead: int
) -> tuple[ImageRecord, HistoryEntry]:
    """An image once its cluster has another head in place of a forgotten one, and the history entry of its move."""
    moved = replace(
        image,
        head=head,
        score=None,
        matched=None,
        cause=Cause.RENAMED,
        decided_at_ms=decision.decided_at_ms,
        edge_sequence=number + ahead,
    )
    move = Move(image.image_id, image.head, head, moved.cause)
    versions = replace(decision, versions=image.versions, truncated=image.truncated)
    return moved, _entry(number, versions, move, moved, ahead)


def overridden(
    number: int, override: Override, old_head: ImageId, moved: ImageRecord, state: StoreState
) -> HistoryEntry:
    """The history entry of a move by an override, after which the image is as `moved` says."""
    return HistoryEntry(
        number=number,
        image_id=moved.image_id,
        old_head=old_head,
        new_head=moved.head,
        cause=moved.cause,
        score=moved.score,
        matched=moved.matched,
        place=moved.place,
        offset=state.position.offset,
        version=moved.version,
        decided_at_ms=moved.decided_at_ms,
        created_at_ms=moved.created_at_ms,
        arrived_at_ms=moved.arrived_at_ms,
        versions=moved.versions,
        truncated=moved.truncated,
        trigger=Trigger.OVERRIDE if override.rollback is None else Trigger.ROLLBACK,
        reference=override.number,
        ahead=state.ahead,
    )


def _entry(number: int, decision: Decision, move: Move, moved: ImageRecord, ahead: int) -> HistoryEntry:
    """The history entry of a move, after which the image is as `moved` says; of a deleted image, before which."""
    return HistoryEntry(
        number=number,
        image_id=move.image_id,
        old_head=move.old_head,
        new_head=move.new_head,
        cause=move.cause,
        score=move.score,
        matched=move.matched,
        place=moved.place,
        offset=decision.offset,
        version=moved.version,
        decided_at_ms=decision.decided_at_ms,
        created_at_ms=moved.created_at_ms,
        arrived_at_ms=moved.arrived_at_ms,
        versions=decision.versions,
        truncated=decision.truncated,
        trigger=Trigger.STREAM if decision.member is None else Trigger.MANIFEST,
        ahead=ahead,
    )
