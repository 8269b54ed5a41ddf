"""What a store writes when an image is forgotten: its cluster gets another name, and nothing more is kept under its id.

A head that is forgotten passes its name to its oldest scored member, the one with the lowest place; only if all members
are unscored, to the oldest of these. The new head brings its own score code as founding code. All members move to it in
the same write, the new head first, the others in the order in which they had joined. If they are too many for one
write, they are a bulk move (`storage.bulk.renaming`).

The tombstone lies under the image's pseudonym, so that its versions are ignored although no id is kept. An `Erasure`
says what has yet to be erased (`storage.erasing`). It is the only record that still has the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from core.types import Decision, ImageId, Tombstone
from storage.errors import ContradictionError
from storage.moving import StagedMoves
from storage.records import ClusterRecord, Edge, EmbeddingRecord, Erasure, ImageRecord

__all__ = ["EdgesOf", "Rename", "cluster_after", "heir_of", "renaming_all", "stage_forgetting"]

EdgesOf = Callable[[ImageId], Iterable[Edge]]
"""The edges of a head, by sequence, as they were before the decisions that are staged."""

Rename = Callable[[StagedMoves, Decision, ClusterRecord], None]
"""Stages that a cluster gets another head. Its head is forgotten, and the delete of it is staged."""


def heir_of(members: Iterable[ImageRecord]) -> ImageRecord:
    """The member that a cluster is named after once its head is forgotten. There must be one."""
    return min(members, key=lambda member: (member.unscored, member.place))


def cluster_after(
    cluster: ClusterRecord, heir: ImageRecord, embedding: EmbeddingRecord | None, count: int
) -> ClusterRecord:
    """The cluster under its new head, with so many members."""
    code = b"" if embedding is None else embedding.score_code
    return ClusterRecord(heir.image_id, count, code, cluster.founded_at_ms)


def renaming_all(edges_of: EdgesOf) -> Rename:
    """All members move in the write that is staged."""

    def rename(moves: StagedMoves, decision: Decision, cluster: ClusterRecord) -> None:
        members = _members(moves, cluster.head, edges_of)
        heir = heir_of(members)
        founded = cluster_after(cluster, heir, moves.embedding(heir.place), 1)
        for member in (heir, *(each for each in members if each.image_id != heir.image_id)):
            moves.rename(decision, member, founded)

    return rename


def stage_forgetting(moves: StagedMoves, decision: Decision, tombstone: Tombstone, rename: Rename) -> None:
    """Stages what comes after the delete of an image that is forgotten.

    Raises:
        ContradictionError: The cluster lists an image that is unknown.
    """
    image_id = decision.image_id
    cluster = moves.cluster(image_id)
    if cluster is not None:
        rename(moves, decision, cluster)
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
