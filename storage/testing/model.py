"""A plain model of a store: it makes valid decisions out of any numbers, and remembers what they should do.

It consists of dictionaries and lists and shares no code with the stores, so it is their oracle: heads, members in
order, founding codes, history, counts.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from core.types import (
    NO_HEAD,
    Cause,
    Decision,
    ImageId,
    Move,
    Outcome,
    RequestPosition,
    RequestSource,
    Tombstone,
    Versions,
)

LOG = "topic-one"
"""The log id of all decisions made here."""

KINDS = (
    *("found", "join", "join", "join", "adopt", "again", "again", "repeat", "older", "unscored"),
    *("again", "join", "delete", "replay"),
)

REPLAYS = RequestSource("replay-topic", 0)
"""Where all requests of the model lie."""

NAMES = ("a", "b", "a/b", "ä", "日本", "x" * 256, "a b", "%2F", "..", "similar", "\x00", "🙂" * 64)
"""Ids that a careless codec or path would confuse; numbered ids follow."""


@dataclass(frozen=True, slots=True)
class Action:
    """Numbers that the model turns into a valid decision, whatever they are."""

    kind: str
    who: int
    target: int
    bits: int


actions = st.builds(
    Action,
    kind=st.sampled_from(KINDS),
    who=st.integers(0, 40),
    target=st.integers(0, 1_000),
    bits=st.integers(0, 2**16 - 1),
)


def seeded_actions(seed: int, count: int, ids: int = 400) -> list[Action]:
    """The same `count` actions for the same seed."""
    dice = random.Random(seed)
    return [
        Action(dice.choice(KINDS), dice.randrange(ids), dice.randrange(10**6), dice.randrange(2**16))
        for _ in range(count)
    ]


def name(number: int) -> ImageId:
    """The id of a number."""
    return ImageId(NAMES[number] if number < len(NAMES) else f"image-{number}")


@dataclass
class StoreModel:
    """What a store should hold."""

    offset: int = -1
    head: dict[ImageId, ImageId] = field(default_factory=dict)
    version: dict[ImageId, int] = field(default_factory=dict)
    place: dict[ImageId, int] = field(default_factory=dict)
    code: dict[ImageId, bytes] = field(default_factory=dict)
    """Founding code by head."""
    members: dict[ImageId, list[ImageId]] = field(default_factory=dict)
    """By head, in the order in which they joined."""
    history: list[tuple[ImageId, ImageId | None, ImageId, Cause]] = field(default_factory=list)
    graves: dict[ImageId, int] = field(default_factory=dict)
    """The version up to which an image was deleted."""
    duplicates: int = 0
    superseded: int = 0
    deleted: int = 0
    replayed: int = 0
    requests: int = 0

    def copy(self) -> StoreModel:
        """An independent copy."""
        return copy.deepcopy(self)

    def decide(self, action: Action) -> Decision:
        """A valid decision for the next offset. The model then has its effect."""
        self.offset += 1
        image = name(action.who)
        if action.kind == "delete":
            return self._deleted(action, image)
        if action.kind == "replay":
            return self._replayed(action, image)
        ignore = {"repeat": Outcome.DUPLICATE, "older": Outcome.SUPERSEDED}.get(action.kind)
        if ignore and image in self.head:
            return self._ignored(image, ignore, self.version[image], self.place[image])
        if ignore and image in self.graves:
            return self._ignored(image, Outcome.SUPERSEDED, self.graves[image] + 1, self.offset)
        version = max(self.version.get(image, 0), self.graves.pop(image, 0)) + 1 + action.bits % 3
        move = self._own_move(action, image)
        code = b"" if move.cause is Cause.UNSCORED else action.bits.to_bytes(2, "big") * 8
        self.version[image], self.place[image] = version, self.offset
        decision = replace(self._decision(action, Outcome.DECIDED, image), version=version, score_code=code)
        return replace(decision, moves=self._do_all(action, move, code))

    def _decision(self, action: Action, outcome: Outcome, image: ImageId) -> Decision:
        return Decision(
            offset=self.offset,
            checksum=(self.offset * 2654435761) % 2**32,
            outcome=outcome,
            image_id=image,
            version=0,
            place=self.offset,
            search_vector=action.bits.to_bytes(2, "little") * 6,
            score_vector=action.bits.to_bytes(2, "little") * 4,
            versions=Versions(f"model-{action.bits % 2}", "index-1"),
            created_at_ms=1_700_000_000_000 + self.offset,
            arrived_at_ms=1_700_000_000_100 + self.offset,
            decided_at_ms=1_700_000_000_200 + self.offset,
            truncated=action.bits % 5 == 0,
        )

    def _do_all(self, action: Action, own: Move, code: bytes) -> tuple[Move, ...]:
        moves = [own]
        self._do(own, code)
        if action.kind == "adopt":
            singletons = sorted(head for head, members in self.members.items() if members == [head])
            for candidate in [head for head in singletons if head not in (own.image_id, own.new_head)][
                : 1 + action.bits % 2
            ]:
                moves.append(Move(candidate, candidate, own.new_head, Cause.ADOPTED, 0.75, own.image_id))
                self._do(moves[-1], code)
        return tuple(moves)

    def _deleted(self, action: Action, image: ImageId) -> Decision:
        """A delete of what is there, or of versions to come; of what was deleted before it does nothing."""
        decision = self._decision(action, Outcome.DELETED, image)
        if image not in self.head and (image in self.graves or action.bits % 2):
            return decision
        version = self.version.get(image, 0) + action.bits % 3
        tombstone = Tombstone(image, version, self.offset, self.offset, "author", f"reason {action.bits}")
        moves: tuple[Move, ...] = ()
        if image in self.head:
            moves = (Move(image, self.head[image], NO_HEAD, Cause.DELETED),)
            self._leave(image)
            del self.head[image], self.version[image], self.place[image]
            self.history.append((image, moves[0].old_head, NO_HEAD, Cause.DELETED))
            self.deleted += 1
        self.graves[image] = version
        return replace(decision, tombstone=tombstone, moves=moves, version=version)

    def _replayed(self, action: Action, image: ImageId) -> Decision:
        """The image is decided again, at its place or, for every third one, at a new one."""
        self.replayed += 1
        self.requests += 1 + action.bits % 3
        decision = self._decision(action, Outcome.REPLAYED, image)
        decision = replace(decision, request=RequestPosition(REPLAYS, self.requests))
        if image not in self.head or action.bits % 4 == 0:
            return decision
        if action.bits % 3 == 0:
            self.place[image] = self.offset
        code = action.bits.to_bytes(2, "big") * 8
        moves = self._do_all(action, self._own_move(action, image), code)
        return replace(decision, version=self.version[image], place=self.place[image], moves=moves, score_code=code)

    def _ignored(self, image: ImageId, outcome: Outcome, version: int, place: int) -> Decision:
        if outcome is Outcome.DUPLICATE:
            self.duplicates += 1
        else:
            self.superseded += 1
            version -= 1
        checksum = (self.offset * 2654435761) % 2**32
        return Decision(self.offset, checksum, outcome, image, version, place)

    def _own_move(self, action: Action, image: ImageId) -> Move:
        old = self.head.get(image)
        if action.kind == "unscored":
            return Move(image, old, image, Cause.UNSCORED)
        if self.members.get(image, [image]) != [image]:
            return Move(image, old, image, Cause.KEPT)
        heads = sorted(head for head in self.members if head != image)
        if action.kind == "found" or not heads:
            return Move(image, old, image, Cause.FOUNDED)
        head = heads[action.target % len(heads)]
        matched = self.members[head][action.target % len(self.members[head])]
        return Move(image, old, head, Cause.MATCHED, 0.5 + action.bits / 2**18, matched)

    def _do(self, move: Move, code: bytes) -> None:
        image, new = move.image_id, move.new_head
        self.history.append((image, move.old_head, new, move.cause))
        if move.old_head != new:
            if move.old_head is not None:
                self._leave(image)
            if new not in self.members:
                self.code[new] = code
            self.members.setdefault(new, []).append(image)
        elif self.members[new] == [image]:
            self.code[new] = code
        self.head[image] = new

    def _leave(self, image: ImageId) -> None:
        head = self.head[image]
        self.members[head].remove(image)
        if not self.members[head]:
            del self.members[head], self.code[head]
