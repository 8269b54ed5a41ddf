"""From decisions to writes: a pure plan of everything that a batch of decisions changes.

Storage decides nothing. What a decision says of its outcome must fit what the store holds, or nothing of the batch is
written; its moves are staged by `storage.moving`.

    decided       the image, its embeddings and its moves
    duplicate     nothing: the version or the request was applied before
    superseded    nothing: a higher version was placed, or this one was deleted
    unreadable    nothing
    deleted       a tombstone, and the move of the image if it is there
    replayed      the moves that change something, and that the request is applied

One that a row of a manifest has caused also counts that row (`storage.delta_progress`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.manifest_rows import MemberRow, RowResult
from core.types import NO_HEAD, Decision, ImageId, LogPosition, Outcome
from storage.delta_progress import begun, with_row
from storage.forgetting import Rename, stage_forgetting
from storage.moving import Changes, Reader, StagedMoves, contradict
from storage.records import EmbeddingRecord, ImageRecord, StoreState

__all__ = ["Changes", "Reader", "stage"]

_OUTCOMES = {RowResult.KEPT: Outcome.DUPLICATE, RowResult.SUPERSEDED: Outcome.SUPERSEDED}
"""Of a decision on a row; those of all other results are decided."""


def stage(
    reader: Reader,
    state: StoreState,
    log_id: str,
    decisions: Sequence[Decision],
    rename: Rename | None = None,
) -> Changes:
    """Everything that `decisions` change in a store that is in `state`.

    The offsets must have been checked against `state`. `rename` gives the cluster of a forgotten image another head;
    None: no decision forgets an image.

    Raises:
        ContradictionError: A decision does not fit what the store, with the decisions before it, holds.
    """
    staged = _Stage(reader, state, rename)
    for decision in decisions:
        staged.add(decision)
    changes = staged.moves.changes
    if decisions:
        position = LogPosition(log_id, decisions[-1].offset, decisions[-1].checksum, state.position.base)
        changes.state = replace(changes.state, position=position, requests=staged.requests)
    return changes


class _Stage:
    """The changes of the decisions so far; later decisions see what earlier ones changed."""

    def __init__(self, reader: Reader, state: StoreState, rename: Rename | None) -> None:
        self.moves = StagedMoves(reader, state)
        self._rename = rename
        self.requests = dict(state.requests)

    def add(self, decision: Decision) -> None:
        if decision.dead_letter is not None:
            self.moves.changes.dead_letters[decision.offset] = decision.dead_letter
        if decision.tombstone is not None and decision.outcome is not Outcome.DELETED:
            contradict(decision, f"it is {decision.outcome} and leaves a tombstone")
        if decision.forget and decision.tombstone is None:
            contradict(decision, "it forgets an image and leaves no tombstone")
        match decision.outcome:
            case Outcome.DECIDED:
                self._decide(decision)
            case Outcome.DELETED:
                self._delete(decision)
            case Outcome.REPLAYED:
                self._replay(decision)
            case _:
                self._ignore(decision)
        if decision.member is not None:
            self._count_row(decision, decision.member)

    def _decide(self, decision: Decision) -> None:
        image = self.moves.image(decision.image_id)
        if not decision.moves or decision.moves[0].image_id != decision.image_id:
            contradict(decision, "its first move is not the image's own")
        if image is not None and decision.version <= image.version:
            contradict(decision, f"version {decision.version} comes after version {image.version} was placed")
        self._begin_life(decision)
        self._embed(decision, image)
        for index, move in enumerate(decision.moves):
            self.moves.move(decision, move, own=index == 0)

    def _count_row(self, decision: Decision, member: MemberRow) -> None:
        if decision.outcome is not _OUTCOMES.get(member.result, Outcome.DECIDED):
            contradict(decision, f"it is {decision.outcome}, and its row is {member.result}")
        progress = self.moves.delta(member.manifest_id) or begun(member.manifest_id, decision.decided_at_ms)
        counted = with_row(progress, member, self.moves.told(decision.image_id), decision.decided_at_ms)
        self.moves.changes.deltas[member.manifest_id] = counted

    def _ignore(self, decision: Decision) -> None:
        if decision.moves:
            contradict(decision, f"it is {decision.outcome} and has moves")
        if decision.outcome is Outcome.UNREADABLE:
            return
        if decision.request is not None:
            if not self._applied(decision):
                contradict(decision, f"it is {decision.outcome}, but its request was not applied before")
        elif decision.version > self._last_version(decision.image_id):
            contradict(decision, f"it is {decision.outcome}, but version {decision.version} was not placed before")
        if decision.outcome is Outcome.DUPLICATE:
            self.moves.count(duplicates=1)
        else:
            self.moves.count(superseded=1)

    def _delete(self, decision: Decision) -> None:
        image, tombstone = self.moves.image(decision.image_id), decision.tombstone
        if tombstone is None:
            if decision.moves:
                contradict(decision, "it deletes an image and leaves no tombstone")
            return
        if tombstone.image_id != decision.image_id or tombstone.version < self._last_version(decision.image_id):
            contradict(decision, f"version {tombstone.version} of {tombstone.image_id!r} cannot be deleted")
        if image is not None and [move.new_head for move in decision.moves] != [NO_HEAD]:
            contradict(decision, "the image is there, and its move does not delete it")
        if self.moves.tombstone(decision.image_id) is None:
            self.moves.count(tombstones=1)
        for move in decision.moves:
            self.moves.move(decision, move, own=move.image_id == decision.image_id)
            self.moves.count(deleted=1)
        if decision.forget:
            assert self._rename is not None
            stage_forgetting(self.moves, decision, tombstone, self._rename)
            return
        name = self.moves.tombstone_name(decision.image_id)
        self.moves.changes.tombstones[name] = replace(tombstone, image_id=name)

    def _replay(self, decision: Decision) -> None:
        if decision.request is not None:
            if self._applied(decision):
                contradict(decision, "its request was applied before")
            self.requests[decision.request.source] = decision.request.offset
        self.moves.count(replayed=1)
        image = self.moves.image(decision.image_id)
        own = bool(decision.moves) and decision.moves[0].image_id == decision.image_id
        if own:
            if image is not None and image.version != decision.version:
                contradict(decision, f"it decides version {decision.version}, the store has version {image.version}")
            if image is None:
                self._begin_life(decision)
            if image is None or image.place != decision.place:
                self._embed(decision, image)
            else:
                self._encode(decision)
        for index, move in enumerate(decision.moves):
            self.moves.move(decision, move, own=own and index == 0)

    def _begin_life(self, decision: Decision) -> None:
        """A version above the deleted ones begins a new life."""
        tombstone = self.moves.tombstone(decision.image_id)
        if tombstone is None:
            return
        if decision.version <= tombstone.version:
            contradict(decision, f"version {decision.version} comes after version {tombstone.version} was deleted")
        self.moves.changes.tombstones[tombstone.image_id] = None
        self.moves.count(tombstones=-1)

    def _embed(self, decision: Decision, image: ImageRecord | None) -> None:
        if not 0 <= decision.place <= decision.offset:
            contradict(decision, f"its place {decision.place} is not one of the order so far")
        if decision.place != decision.offset and self.moves.embedding(decision.place) is not None:
            contradict(decision, f"its place {decision.place} is another image's")
        if image is not None:
            self.moves.changes.embeddings[image.place] = None
        self.moves.changes.embeddings[decision.place] = EmbeddingRecord(
            decision.place,
            decision.image_id,
            decision.version,
            decision.score_code,
            decision.search_vector,
            decision.score_vector,
        )

    def _encode(self, decision: Decision) -> None:
        """A version that is decided again, at its old place, keeps its vectors. Its score code may be a newer one."""
        known = self.moves.embedding(decision.place)
        if known is not None and decision.score_code not in (b"", known.score_code):
            self.moves.changes.embeddings[decision.place] = replace(known, score_code=decision.score_code)

    def _applied(self, decision: Decision) -> bool:
        request = decision.request
        return request is not None and request.offset <= self.requests.get(request.source, -1)

    def _last_version(self, image_id: ImageId) -> int:
        """The last version that was placed or deleted; -1: none."""
        image, tombstone = self.moves.image(image_id), self.moves.tombstone(image_id)
        return max(-1 if image is None else image.version, -1 if tombstone is None else tombstone.version)
