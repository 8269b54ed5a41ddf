"""What a store writes when an image is forgotten: its cluster gets another name, and nothing more is kept under its id.

A head that is forgotten passes its name to its oldest scored member, the one with the lowest place; only if all members
are unscored, to the oldest of these. The new head brings its own score code as founding code. All members move to it in
the same write, the new head first, the others in the order in which they had joined.

The tombstone lies under the image's pseudonym, so that its versions are ignored although no id is kept. An `Erasure`
says what has yet to be erased (`storage.erasing`). It is the only record that still has the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from core.types import Decision, ImageId, Tombstone
from storage.errors import ContradictionError
from storage.moving import StagedMoves
from storage.records import ClusterRecord, Edge, Erasure, ImageRecord

__all__ = ["EdgesOf", "heir_of", "stage_forgetting"]

EdgesOf = Callable[[ImageId], Iterable[Edge]]
"""The edges of a head, by sequence, as they were before the decisions that are staged."""


def heir_of(members: Iterable[ImageRecord]) -> ImageRecord:
    """The member that a cluster is named after once its head is forgotten. There must be one."""
    return min(members, key=lambda member: (member.unscored, member.place))


def stage_forgetting(moves: StagedMoves, decision: Decision, tombstone: Tombstone, edges_of: EdgesOf) -> None:
    """Stages what comes after the delete of an image that is forgotten.

    Raises:
        ContradictionError: The cluster lists an image that is unknown.
    """
    image_id = decision.image_id
    cluster = moves.cluster(image_id)
    if cluster is not None:
        _rename(moves, decision, cluster, _members(moves, image_id, edges_of))
    changes, pseudonym = moves.changes, moves.pseudonym(image_id)
    # Its founding code must not stay as that of an ended cluster.
    changes.ended = [each for each in changes.ended if each[0] != image_id]
    if image_id in changes.tombstones or moves.tombstone_name(image_id) != pseudonym:
        changes.tombstones[image_id] = None
    changes.tombstones[pseudonym] = replace(tombstone, image_id=pseudonym)
    changes.erasures[pseudonym] = Erasure(
        pseudonym, image_id, changes.state.history_number, decision.offset, decision.decided_at_ms
    )


def _members(moves: StagedMoves, head: ImageId, edges_of: EdgesOf) -> list[ImageRecord]:
    """The members of a cluster, in the order in which they joined."""
    listed = {edge.sequence: edge.member for edge in edges_of(head)}
    for (of, sequence), member in moves.changes.edges.items():
        if of == head and member is None:
            listed.pop(sequence, None)
        elif of == head and member is not None:
            listed[sequence] = member
    members = []
    for _, member in sorted(listed.items()):
        image = moves.image(member)
        if image is None:
            raise ContradictionError(f"the cluster {head!r} lists {member!r}, which is unknown: run `neardup verify`")
        members.append(image)
    return members


def _rename(moves: StagedMoves, decision: Decision, cluster: ClusterRecord, members: list[ImageRecord]) -> None:
    heir = heir_of(members)
    embedding = moves.embedding(heir.place)
    code = b"" if embedding is None else embedding.score_code
    founded = ClusterRecord(heir.image_id, 1, code, cluster.founded_at_ms)
    moves.rename(decision, heir, founded)
    for member in members:
        if member.image_id != heir.image_id:
            moves.rename(decision, member, founded)
