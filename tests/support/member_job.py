"""A small job for the rows of deltas: it reads their records, decides each as it says, and applies that to a store.

Beside what a record says it knows pins of nobody, and scores nothing: what the real job decides is tested elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from core.manifest_rows import MemberRow, RowResult
from core.notifications import decode_joined
from core.protos.joined_pb2 import JoinedMember
from core.types import Cause, Decision, ImageId, Move, Outcome, Versions
from storage.testing.decisions import decided

__all__ = ["Known", "decide"]

Known = Callable[[ImageId], tuple[int, ImageId] | None]
"""Version and head of an image in the store; None: it is unknown."""


def decide(records: Sequence[bytes], first: int, known: Known) -> list[Decision]:
    """Decides records of which the first has a position in the order."""
    changed: dict[ImageId, tuple[int, ImageId]] = {}

    def now(image_id: ImageId) -> tuple[int, ImageId] | None:
        return changed.get(image_id) or known(image_id)

    decisions = []
    for offset, record in enumerate(records, first):
        member = decode_joined(record)
        assert isinstance(member, JoinedMember)
        decision = _decided(offset, member, now)
        decisions.append(decision)
        if decision.moves:
            changed[decision.image_id] = decision.version, decision.moves[0].new_head
    return decisions


def _decided(offset: int, member: JoinedMember, now: Known) -> Decision:
    image_id, version, head = ImageId(member.image.image_id), member.image.image_version, ImageId(member.head)
    before, there = now(image_id), now(head)
    row = MemberRow(member.manifest_id, member.row, RowResult.JOINED)
    if before is not None and version <= before[0]:
        kept = version == before[0]
        outcome = Outcome.DUPLICATE if kept else Outcome.SUPERSEDED
        found = row._replace(result=RowResult.KEPT if kept else RowResult.SUPERSEDED)
        return Decision(offset, offset, outcome, image_id, version, offset, member=found)
    old = None if before is None else before[1]
    if head == image_id or there is None:
        move = Move(image_id, old, image_id, Cause.FOUNDED)
        row = row._replace(result=RowResult.FOUNDED if head == image_id else RowResult.ELSEWHERE_HEAD_GONE)
    else:
        score = member.score if member.HasField("score") else None
        matched = ImageId(member.matched or member.head)
        move = Move(image_id, old, there[1], Cause.BOOTSTRAPPED, score, matched)
    return replace(
        decided(offset, image_id, move, version=version, member=row),
        search_vector=member.image.search_vector,
        score_vector=member.image.score_vector,
        versions=Versions(member.model_version, ""),
        created_at_ms=member.image.created_at_ms,
        arrived_at_ms=member.image.arrived_at_ms,
        decided_at_ms=member.image.arrived_at_ms + 1,
    )
