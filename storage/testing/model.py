"""A plain model of a store: it makes valid decisions out of any numbers, and remembers what they should do.

It consists of dictionaries and lists and shares no code with the stores, so it is their oracle: heads, members in
order, founding codes, history, counts.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field

from hypothesis import strategies as st

from core.types import Cause, Decision, ImageId, Move, Outcome, Versions

LOG = "topic-one"
"""The log id of all decisions made here."""

KINDS = ("found", "join", "join", "join", "adopt", "again", "again", "repeat", "older", "unscored")

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
    duplicates: int = 0
    superseded: int = 0

    def copy(self) -> StoreModel:
        """An independent copy."""
        return copy.deepcopy(self)

    def decide(self, action: Action) -> Decision:
        """A valid decision for the next offset. The model then has its effect."""
        self.offset += 1
        image = name(action.who)
        known = image in self.head
        ignore = {"repeat": Outcome.DUPLICATE, "older": Outcome.SUPERSEDED}.get(action.kind)
        if ignore and known:
            return self._ignored(image, ignore)
        moves = [self._own_move(action, image)]
        decision_version = self.version.get(image, 0) + 1 + action.bits % 3
        code = action.bits.to_bytes(2, "big") * 8
        if moves[0].cause is Cause.UNSCORED:
            code = b""
        self.version[image], self.place[image] = decision_version, self.offset
        self._do(moves[0], code)
        if action.kind == "adopt":
            singletons = sorted(head for head, members in self.members.items() if len(members) == 1)
            for candidate in [head for head in singletons if head not in (image, moves[0].new_head)][
                : 1 + action.bits % 2
            ]:
                moves.append(Move(candidate, candidate, moves[0].new_head, Cause.ADOPTED, 0.75, image))
                self._do(moves[-1], code)
        return Decision(
            offset=self.offset,
            checksum=(self.offset * 2654435761) % 2**32,
            outcome=Outcome.DECIDED,
            image_id=image,
            version=decision_version,
            place=self.offset,
            moves=tuple(moves),
            score_code=code,
            search_vector=action.bits.to_bytes(2, "little") * 6,
            score_vector=action.bits.to_bytes(2, "little") * 4,
            versions=Versions(f"model-{action.bits % 2}", "index-1"),
            created_at_ms=1_700_000_000_000 + self.offset,
            arrived_at_ms=1_700_000_000_100 + self.offset,
            decided_at_ms=1_700_000_000_200 + self.offset,
            truncated=action.bits % 5 == 0,
        )

    def _ignored(self, image: ImageId, outcome: Outcome) -> Decision:
        version = self.version[image]
        if outcome is Outcome.DUPLICATE:
            self.duplicates += 1
        else:
            self.superseded += 1
            version -= 1
        checksum = (self.offset * 2654435761) % 2**32
        return Decision(self.offset, checksum, outcome, image, version, self.place[image])

    def _own_move(self, action: Action, image: ImageId) -> Move:
        old = self.head.get(image)
        if action.kind == "unscored":
            return Move(image, old, image, Cause.UNSCORED)
        if len(self.members.get(image, ())) > 1:
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
                self.members[move.old_head].remove(image)
                if not self.members[move.old_head]:
                    del self.members[move.old_head], self.code[move.old_head]
            self.members.setdefault(new, []).append(image)
        self.head[image] = new
        if image == new and self.members[new] == [image]:
            self.code[new] = code
