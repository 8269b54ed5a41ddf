"""What overrides change about the verdict on one image: people outrank the stream. Pure, and around any rule.

1. A match is left out before the rule sees it if an image that the subject must not meet is in its cluster.
2. An image that is pinned follows its target, and no rule is asked. While the target is unknown or deleted, the pin
   waits, and the image is decided as usual. A forbid outranks a pin.
3. A match that a person put into its cluster vouches for it (see `clustering.rule`).
4. If the image changes its cluster, the images that are pinned to it follow, and then those that are pinned to these.
5. A singleton that is pinned is not adopted. Neither is one that must not meet an image of the chosen cluster, or one
   that comes there by the same verdict.

A head that has members stays a head, whatever overrides say. An image that could not be searched or scored does not
follow its pin: it is its own head, because by that cause storage and index know that it is hidden. Images that are
pinned to it follow it nevertheless.

More than a thousand images can be pinned to a head alone, and look-ups do not name them (`storage.overrides.rules`): if
it is no head any more when it moves, they stay until they are decided again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clustering.rule import Placed, Subject
from clustering.staging import StagedLookup
from core.types import Cause, ImageId, Move

__all__ = ["Obeyed", "Pin", "is_forbidden", "obeyed", "offered", "pin_of"]


class Pin(NamedTuple):
    """Where an image belongs."""

    target: ImageId
    head: ImageId
    """Of the target."""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What a verdict becomes."""

    moves: tuple[Move, ...]
    """The image's own, then those of the singletons that it adopts, then those of the images that follow it."""
    unadopted: frozenset[ImageId] = frozenset()
    """The singletons that the rule would have moved."""
    lacking: frozenset[ImageId] = frozenset()
    """The images to look up: they may follow too."""


def offered(subject: Subject, placed: Sequence[Placed], staged: StagedLookup) -> tuple[list[Placed], list[Placed]]:
    """The matches that the rule may see, with those that vouch marked, and the matches that are forbidden."""
    forbidden_heads = _heads(staged.rules(subject.image_id).forbidden, staged)
    allowed: list[Placed] = []
    forbidden: list[Placed] = []
    for one in placed:
        if one.cluster.head in forbidden_heads:
            forbidden.append(one)
        else:
            allowed.append(one._replace(vouched=True) if _is_pinned_there(one, staged) else one)
    return allowed, forbidden


def is_forbidden(subject: Subject, head: ImageId, staged: StagedLookup) -> bool:
    """Whether an image that the subject must not meet is in the cluster of a head."""
    return head in _heads(staged.rules(subject.image_id).forbidden, staged)


def pin_of(subject: Subject, staged: StagedLookup) -> Pin | None:
    """The pin that the image follows; None if it is decided as usual."""
    rules = staged.rules(subject.image_id)
    if rules.pinned_to is None or subject.keeps:
        return None
    head = staged.head_of(rules.pinned_to)
    if head is None or head == subject.image_id or head in _heads(rules.forbidden, staged):
        return None
    return Pin(rules.pinned_to, head)


def obeyed(moves: Sequence[Move], staged: StagedLookup, asked: Collection[ImageId]) -> Obeyed:
    """The moves of a verdict, without those that overrides forbid, and with those that they bring.

    Args:
        moves: The image's own move, then those of the singletons that it adopts.
        staged: What storage will answer before them.
        asked: The images that were looked up; those that the look-up lacks are unknown.
    """
    own, *adopted = moves
    followers, lacking = _followers(own, staged, asked)
    inside = {own.image_id, *(move.image_id for move in followers)}
    permitted: list[Move] = []
    for move in adopted:
        rules = staged.rules(move.image_id)
        if rules.pinned_to is None and not _meets(rules.forbidden, move.new_head, inside, staged):
            permitted.append(move)
            inside.add(move.image_id)
    unadopted = frozenset(move.image_id for move in adopted) - inside
    return Obeyed((own, *permitted, *followers), unadopted, lacking)


def _followers(own: Move, staged: StagedLookup, asked: Collection[ImageId]) -> tuple[list[Move], frozenset[ImageId]]:
    """The moves of the images that follow, and the images that may follow and were not looked up."""
    head = own.new_head
    if head == own.old_head:
        return [], frozenset()
    moves: list[Move] = []
    seen, inside, lacking = {own.image_id}, {own.image_id}, set[ImageId]()
    left = Counter([own.old_head])
    leaders = deque([own.image_id])
    while leaders:
        leader = leaders.popleft()
        for follower in staged.rules(leader).followers:
            if follower in seen:
                continue
            seen.add(follower)
            membership = staged.membership(follower)
            if membership is None:
                lacking.update({follower}.difference(asked))
                continue
            leads = membership.head == follower and staged.cluster(follower).count - left[follower] > 1
            if membership.head == head or leads or _meets(staged.rules(follower).forbidden, head, inside, staged):
                continue
            moves.append(Move(follower, membership.head, head, Cause.PINNED, None, leader))
            left[membership.head] += 1
            inside.add(follower)
            leaders.append(follower)
    return moves, frozenset(lacking)


def _meets(forbidden: Collection[ImageId], head: ImageId, inside: Collection[ImageId], staged: StagedLookup) -> bool:
    """Whether one of these images is in the cluster of a head, or comes there now."""
    return any(image_id in inside for image_id in forbidden) or head in _heads(forbidden, staged)


def _heads(images: Iterable[ImageId], staged: StagedLookup) -> set[ImageId]:
    """The heads of images. A deleted one stays the head of its members, because it may come back."""
    return {staged.head_of(image_id) or image_id for image_id in images}


def _is_pinned_there(placed: Placed, staged: StagedLookup) -> bool:
    target = staged.rules(placed.match.candidate.image_id).pinned_to
    return target is not None and staged.head_of(target) == placed.cluster.head
