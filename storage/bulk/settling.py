"""What the records of a bulk move say once they are rewritten. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from core.overrides import Override
from core.types import ImageId
from storage.moving import Changes, PlannedMove, overridden
from storage.records import ClusterRecord, EndedCluster

__all__ = ["settle_clusters", "settle_images"]


def settle_images(changes: Changes, override: Override | None, moves: Iterable[PlannedMove]) -> None:
    """Adds moves that everybody sees already: images, edges and history. Their new edges are there.

    Args:
        changes: Of the state that they are written to.
        override: What moves them; None: a forget, of which the history is written already.
        moves: The images as they are written, and as they are seen.
    """
    for image, after in moves:
        changes.images[image.image_id] = after
        if (image.head, image.edge_sequence) != (after.head, after.edge_sequence):
            changes.edges[image.head, image.edge_sequence] = None
        if override is None:
            continue
        changes.state = replace(changes.state, history_number=changes.state.history_number + 1)
        number = changes.state.history_number
        entry = overridden(number, override, image.head, after, changes.state)
        changes.history.append(replace(entry, ahead=after.edge_sequence - number))


def settle_clusters(
    changes: Changes, first: int, clusters: Iterable[tuple[ImageId, ClusterRecord | None, ClusterRecord | None]]
) -> None:
    """Adds clusters that everybody sees already.

    Args:
        changes: Of the state that they are written to.
        first: The number of the first history entry of the bulk move, which ended clusters.
        clusters: By their heads, as they are written and as they are seen.
    """
    for head, before, after in clusters:
        changes.clusters[head] = after
        if before is not None and (after is None or after.founding_code != before.founding_code):
            changes.ended.append((head, EndedCluster(first, before)))
