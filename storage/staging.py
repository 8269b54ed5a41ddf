"""From decisions to writes: a pure plan of everything that a batch of decisions changes.

Storage decides nothing. Each move says which image goes from which head to which. The writes follow from it:

    the new head is the image itself    the cluster is created, with the decision's score code as founding code
    the new head is another image       the edge is written there, the count grows by one
    the old head is another image       the edge there is deleted, the count shrinks by one
    the image leaves as a singleton     its edge and its cluster are deleted
    the head stays the same             the edge stays; a singleton that founds anew takes the new founding code,
                                        a head with members (cause `kept` or `unscored`) keeps the old one

A move that does not fit what the store holds is a contradiction; then nothing of the batch is written. Every move gets
a history entry. Entries are numbered from 1 without a gap, and an edge carries the number of the move that made it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn, Protocol

from core.types import Cause, DeadLetterRecord, Decision, ImageId, LogPosition, Move, Outcome
from storage.errors import ContradictionError
from storage.records import ClusterRecord, EmbeddingRecord, HistoryEntry, ImageRecord, StoreState

__all__ = ["Changes", "Reader", "stage"]


class Reader(Protocol):
    """What staging reads of the store."""

    def image(self, image_id: ImageId) -> ImageRecord | None: ...

    def cluster(self, head: ImageId) -> ClusterRecord | None: ...

    def embedding(self, place: int) -> EmbeddingRecord | None: ...


@dataclass(slots=True)
class Changes:
    """What to write, all of it or nothing. None deletes."""

    state: StoreState
    images: dict[ImageId, ImageRecord] = field(default_factory=dict)
    clusters: dict[ImageId, ClusterRecord | None] = field(default_factory=dict)
    edges: dict[tuple[ImageId, int], ImageId | None] = field(default_factory=dict)
    embeddings: dict[int, EmbeddingRecord | None] = field(default_factory=dict)
    history: list[HistoryEntry] = field(default_factory=list)
    dead_letters: dict[int, DeadLetterRecord] = field(default_factory=dict)
    """By the offset of the record of the order."""


def stage(reader: Reader, state: StoreState, log_id: str, decisions: Sequence[Decision]) -> Changes:
    """Everything that `decisions` change in a store that is in `state`.

    The offsets must have been checked against `state`.

    Raises:
        ContradictionError: A decision does not fit what the store, with the decisions before it, holds.
    """
    staged = _Stage(reader, state)
    for decision in decisions:
        staged.add(decision)
    position = state.position
    if decisions:
        position = LogPosition(log_id, decisions[-1].offset, decisions[-1].checksum, position.base)
    staged.changes.state = replace(state, position=position, **staged.counts)
    return staged.changes


class _Stage:
    """The changes of the decisions so far; later decisions see what earlier ones changed."""

    def __init__(self, reader: Reader, state: StoreState) -> None:
        self._reader = reader
        self.changes = Changes(state)
        self.counts = {
            "images": state.images,
            "clusters": state.clusters,
            "history_number": state.history_number,
            "duplicates": state.duplicates,
            "superseded": state.superseded,
        }

    def add(self, decision: Decision) -> None:
        if decision.dead_letter is not None:
            self.changes.dead_letters[decision.offset] = decision.dead_letter
        if decision.outcome is Outcome.UNREADABLE:
            if decision.moves:
                _contradict(decision, "it names no image and has moves")
            return
        image = self._image(decision.image_id)
        if decision.outcome is not Outcome.DECIDED:
            self._ignore(decision, image)
            return
        if not decision.moves or decision.moves[0].image_id != decision.image_id:
            _contradict(decision, "its first move is not the image's own")
        if image is not None and decision.version <= image.version:
            _contradict(decision, f"version {decision.version} comes after version {image.version} was placed")
        self._embed(decision, image)
        for index, move in enumerate(decision.moves):
            self._move(decision, move, own=index == 0)

    def _ignore(self, decision: Decision, image: ImageRecord | None) -> None:
        if decision.moves:
            _contradict(decision, f"it is {decision.outcome} and has moves")
        if image is None or image.version < decision.version:
            _contradict(decision, f"it is {decision.outcome}, but version {decision.version} was not placed before")
        if decision.outcome is Outcome.DUPLICATE:
            self.counts["duplicates"] += 1
        else:
            self.counts["superseded"] += 1

    def _embed(self, decision: Decision, image: ImageRecord | None) -> None:
        if not 0 <= decision.place <= decision.offset:
            _contradict(decision, f"its place {decision.place} is not one of the order so far")
        if decision.place != decision.offset and self._embedding(decision.place) is not None:
            _contradict(decision, f"its place {decision.place} is another image's")
        if image is not None:
            self.changes.embeddings[image.place] = None
        self.changes.embeddings[decision.place] = EmbeddingRecord(
            decision.place,
            decision.image_id,
            decision.version,
            decision.score_code,
            decision.search_vector,
            decision.score_vector,
        )

    def _move(self, decision: Decision, move: Move, own: bool) -> None:
        image = self._image(move.image_id)
        self._check(decision, move, image, own)
        self.counts["history_number"] += 1
        number = self.counts["history_number"]
        if image is not None and image.head == move.new_head:
            sequence = image.edge_sequence
            self._stay(decision, move)
        else:
            sequence = number
            if image is not None:
                self._leave(image)
            self._join(decision, move, sequence)
        moved = _moved(decision, move, image, sequence, own)
        self.changes.images[move.image_id] = moved
        self.changes.history.append(_entry(number, decision, move, moved))
        if image is None:
            self.counts["images"] += 1

    def _check(self, decision: Decision, move: Move, image: ImageRecord | None, own: bool) -> None:
        current = None if image is None else image.head
        if move.old_head != current:
            _contradict(decision, f"{move.image_id!r} leaves {move.old_head!r}, but its head is {current!r}")
        led = self._cluster(move.image_id) if current == move.image_id else None
        members = 0 if led is None else led.count
        itself = move.new_head == move.image_id
        if members > 1 and not itself:
            _contradict(decision, f"{move.image_id!r} leaves, but it is a head of {members} members")
        if not itself and self._cluster(move.new_head) is None:
            _contradict(decision, f"{move.new_head!r} is no head")
        fits = {
            Cause.FOUNDED: own and itself and members <= 1,
            Cause.UNSCORED: own and itself,
            Cause.KEPT: own and itself and members > 1,
            Cause.MATCHED: own and not itself,
            Cause.ADOPTED: not own and not itself and members == 1,
        }
        if not fits[move.cause]:
            _contradict(
                decision,
                f"{move.cause} does not fit the move of {move.image_id!r} (a head of {members}) to {move.new_head!r}",
            )

    def _stay(self, decision: Decision, move: Move) -> None:
        """The head stays the same; a singleton that founds its cluster anew takes the new founding code."""
        cluster = self._cluster(move.new_head)
        if move.new_head == move.image_id and cluster is not None and cluster.count == 1:
            self.changes.clusters[move.image_id] = _founded(decision)

    def _leave(self, image: ImageRecord) -> None:
        self.changes.edges[image.head, image.edge_sequence] = None
        cluster = self._cluster(image.head)
        if cluster is None:
            raise ContradictionError(f"{image.image_id!r} has the head {image.head!r}, which has no cluster")
        if image.head == image.image_id:
            self.changes.clusters[image.head] = None
            self.counts["clusters"] -= 1
        else:
            self.changes.clusters[image.head] = replace(cluster, count=cluster.count - 1)

    def _join(self, decision: Decision, move: Move, sequence: int) -> None:
        self.changes.edges[move.new_head, sequence] = move.image_id
        cluster = self._cluster(move.new_head)
        if cluster is None:
            self.changes.clusters[move.new_head] = _founded(decision)
            self.counts["clusters"] += 1
        else:
            self.changes.clusters[move.new_head] = replace(cluster, count=cluster.count + 1)

    def _image(self, image_id: ImageId) -> ImageRecord | None:
        return self.changes.images.get(image_id) or self._reader.image(image_id)

    def _cluster(self, head: ImageId) -> ClusterRecord | None:
        return self.changes.clusters[head] if head in self.changes.clusters else self._reader.cluster(head)

    def _embedding(self, place: int) -> EmbeddingRecord | None:
        return self.changes.embeddings[place] if place in self.changes.embeddings else self._reader.embedding(place)


def _founded(decision: Decision) -> ClusterRecord:
    return ClusterRecord(decision.image_id, 1, decision.score_code, decision.decided_at_ms)


def _moved(decision: Decision, move: Move, image: ImageRecord | None, sequence: int, own: bool) -> ImageRecord:
    """The image after its move. Its own decision brings a new version; an adoption changes the verdict alone."""
    if image is None or own:
        version, place = decision.version, decision.place
        created_at_ms, arrived_at_ms = decision.created_at_ms, decision.arrived_at_ms
        unscored = move.cause is Cause.UNSCORED
    else:
        unscored = image.unscored
        version, place = image.version, image.place
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


def _entry(number: int, decision: Decision, move: Move, moved: ImageRecord) -> HistoryEntry:
    """The history entry of a move, after which the image is as `moved` says."""
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
    )


def _contradict(decision: Decision, why: str) -> NoReturn:
    raise ContradictionError(f"the decision on {decision.image_id!r} at offset {decision.offset} does not fit: {why}")
