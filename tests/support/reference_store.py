"""The simplest storage for the cluster rule: it applies moves one by one and checks each against its state."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from core.errors import LogGapError, StaleError
from core.types import (
    NO_HEAD,
    Cause,
    Cluster,
    Decision,
    ImageId,
    LastVerdict,
    LogPosition,
    Lookup,
    Membership,
    Move,
    Outcome,
    RequestSource,
    Tombstone,
)


class ReferenceStore:
    """Heads and members as two plain dictionaries."""

    def __init__(self) -> None:
        self.heads: dict[ImageId, ImageId] = {}
        self.versions: dict[ImageId, int] = {}
        self.places: dict[ImageId, int] = {}
        self.founding: dict[ImageId, bytes] = {}
        self.members: dict[ImageId, set[ImageId]] = {}
        self.tombstones: dict[ImageId, Tombstone] = {}
        self.verdicts: dict[ImageId, LastVerdict] = {}
        self.requests: dict[RequestSource, int] = {}
        self.position = LogPosition("log")
        self.revision = 0
        self.decisions: list[Decision] = []
        self.codes: dict[ImageId, bytes] = {}
        self.joined: dict[ImageId, int] = {}
        """By image: the number of the move by which it joined its cluster."""
        self.history: list[tuple[int, ImageId, ImageId | None, ImageId, Cause]] = []
        """(offset, image, old head, new head, cause)"""

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters at the current position."""
        known = [i for i in ids if i in self.heads]
        memberships = {i: Membership(i, self.versions[i], self.places[i], self.heads[i]) for i in known}
        heads = {self.heads[i] for i in known} | {i for i in ids if i not in self.heads and i in self.members}
        clusters = {h: Cluster(h, len(self.members[h]), self.founding[h], h not in self.heads) for h in heads}
        tombstones = {i: self.tombstones[i] for i in ids if i in self.tombstones}
        verdicts = {i: self.verdicts[i] for i in verdicts_of if i in self.verdicts}
        return Lookup(self.position, self.revision, memberships, clusters, tombstones, verdicts, dict(self.requests))

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Applies all decisions or none, only at this offset and revision."""
        if (offset, revision) != (self.position.offset, self.revision):
            raise StaleError("moved on", self.position.offset, self.revision)
        assert decisions, "an empty write"
        for expected, decision in enumerate(decisions, offset + 1):
            if decision.offset != expected:
                raise LogGapError("gap", expected)
        for decision in decisions:
            self._apply(decision)
            self.check_law_2()

    def _apply(self, decision: Decision) -> None:
        image_id = decision.image_id
        match decision.outcome:
            case Outcome.DECIDED:
                assert decision.moves[0].image_id == image_id
                assert self.versions.get(image_id, -1) < decision.version
                assert image_id not in self.tombstones or self.tombstones[image_id].version < decision.version
                self.tombstones.pop(image_id, None)
            case Outcome.DELETED:
                deletes = decision.tombstone is not None and image_id in self.heads
                assert decision.tombstone is not None or not decision.forget
                assert [move.cause for move in decision.moves] == [Cause.DELETED] * deletes
            case Outcome.REPLAYED:
                assert image_id not in self.tombstones or not decision.moves
            case _:
                assert not decision.moves
        if decision.request is not None and decision.outcome is Outcome.REPLAYED:
            assert decision.request.offset > self.requests.get(decision.request.source, -1), "applied twice"
            self.requests[decision.request.source] = decision.request.offset
        for move in decision.moves:
            self._say(decision, move)
            self._move(decision, move)
            self._note(decision.offset, move.image_id, move.old_head, move.new_head, move.cause)
        if decision.forget:
            self._rename(decision)
        if decision.tombstone is not None:
            self.tombstones[image_id] = decision.tombstone
        self.position = LogPosition("log", decision.offset, decision.checksum)
        self.decisions.append(decision)

    def _say(self, decision: Decision, move: Move) -> None:
        """An unscored image stays so until it gets a new version or a new place."""
        image_id = move.image_id
        before = self.verdicts.get(image_id)
        was = before is not None and before.unscored
        if image_id == decision.image_id and decision.place != self.places.get(image_id):
            was = False
        unscored = was or move.cause is Cause.UNSCORED
        self.verdicts[image_id] = LastVerdict(move.cause, move.score, move.matched, decision.versions, unscored)

    def _move(self, decision: Decision, move: Move) -> None:
        image_id = move.image_id
        assert self.heads.get(image_id) == move.old_head, (move, decision)
        if image_id != decision.image_id:
            assert move.cause in (Cause.ADOPTED, Cause.PINNED)
            if move.cause is Cause.ADOPTED:
                assert self.members[image_id] == {image_id}, "only singletons are adopted"
        else:
            if (
                decision.outcome is Outcome.DECIDED
                or decision.score_code
                or self.places.get(image_id) != decision.place
            ):
                self.codes[image_id] = decision.score_code
            self.versions[image_id], self.places[image_id] = decision.version, decision.place
        if move.new_head == NO_HEAD:
            self._leave(image_id)
            del self.heads[image_id], self.versions[image_id], self.places[image_id], self.verdicts[image_id]
            return
        if move.old_head == move.new_head and (move.new_head != image_id or self.members[image_id] != {image_id}):
            return
        if move.old_head is not None:
            assert move.old_head != image_id or self.members[image_id] == {image_id}, "a head with members stays"
            self._leave(image_id)
        if move.new_head == image_id and image_id not in self.members:
            self.members[image_id] = set()
            self.founding[image_id] = decision.score_code
        self.members[move.new_head].add(image_id)
        self.heads[image_id] = move.new_head

    def _note(self, offset: int, image_id: ImageId, old: ImageId | None, new: ImageId, cause: Cause) -> None:
        self.history.append((offset, image_id, old, new, cause))
        if old != new:
            self.joined[image_id] = len(self.history)

    def _rename(self, decision: Decision) -> None:
        """What storage makes of a forgotten head: see `storage.forgetting`."""
        old = decision.image_id
        members = self.members.pop(old, set())
        self.founding.pop(old, None)
        ranked = sorted(members, key=lambda each: (self.verdicts[each].unscored, self.places[each]))
        for heir in ranked[:1]:
            self.members[heir], self.founding[heir] = members, self.codes[heir]
            for each in sorted(members, key=lambda each: (each != heir, self.joined[each])):
                self.heads[each] = heir
                last = self.verdicts[each]
                self.verdicts[each] = LastVerdict(Cause.RENAMED, None, None, last.versions, last.unscored)
                self._note(decision.offset, each, old, heir, Cause.RENAMED)

    def _leave(self, image_id: ImageId) -> None:
        head = self.heads[image_id]
        self.members[head].remove(image_id)
        if not self.members[head]:
            del self.members[head], self.founding[head]

    def check_law_2(self) -> None:
        """members(h) == {i : head(i) == h}; head(h) == h, or h was deleted; no empty cluster."""
        inverse: dict[ImageId, set[ImageId]] = {}
        for image_id, head in self.heads.items():
            inverse.setdefault(head, set()).add(image_id)
        assert inverse == self.members
        for head in self.members:
            assert self.heads.get(head) == head or (head not in self.heads and head in self.tombstones)
        assert self.founding.keys() == self.members.keys()
        assert not self.heads.keys() & self.tombstones.keys()
