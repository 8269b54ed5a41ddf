"""What the images of a store say of its other records: damaged clusters, edges and counts are made anew. Pure.

The images are the truth. Whatever can be derived from them is mended:

    image        its edge is written
    cluster      edges that no image has are deleted, the count is counted, the flag of a deleted head is set or taken
                 away; one without members is deleted, a lost one is made anew with its head's present code
    embeddings   at a place that no image has are deleted
    tombstone    of an image that came back since is deleted
    count        of images, clusters or tombstones is corrected by how much it was off

What the images do not tell stays as it is, and `verify` goes on telling it: lost embeddings, holes in the history,
seconds and ended clusters that the history contradicts, a head that is unknown or has another head, two images with the
same edge.

A mend names what to look at again. So it may be found on a view of some moments ago, and the stream may have written
since: what it then finds sound stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from core.types import ImageId
from storage.interfaces import StoreView
from storage.moving import Changes
from storage.records import ClusterRecord, Edge, Mend

__all__ = ["mended"]


def mended(view: StoreView, mends: Iterable[Mend]) -> Changes:
    """What to write so that the records which the mends name say what the images say."""
    plan = _Plan(view)
    for mend in dict.fromkeys(mends):
        plan.look_at(mend)
    for head in plan.heads:
        plan.count_members(head)
    return plan.changes


class _Plan:
    """The changes so far. Clusters come last, because edges that are written count too."""

    def __init__(self, view: StoreView) -> None:
        self._view = view
        self.changes = Changes(view.state())
        self.heads: dict[ImageId, None] = {}

    def look_at(self, mend: Mend) -> None:
        match mend.what:
            case "image":
                self._list(ImageId(mend.name))
            case "cluster":
                self.heads[ImageId(mend.name)] = None
            case "embeddings":
                self._keep_embeddings(mend.number)
            case "tombstone":
                self._keep_tombstone(ImageId(mend.name))
            case "count":
                self._add(mend.name, mend.number)

    def count_members(self, head: ImageId) -> None:
        """The edges and the cluster of one head, as the images say."""
        own = self._view.image(head)
        if own is not None and own.head == head:
            self._list(head)  # it is a member of its own cluster, whatever else was lost
        edges = self.changes.edges
        count = sum(member is not None for (of, _), member in edges.items() if of == head)
        for edge in self._view.edges_of(head, 0):
            key = (head, edge.sequence)
            if self._is_right(edge):
                count += 1
            elif key not in edges:
                edges[key] = None
        old = self._view.cluster(head)
        deleted = own is None and self._view.tombstone(head) is not None
        known = deleted or (own is not None and own.head == head)
        new: ClusterRecord | None = None
        if count and known:
            new = replace(old or self._anew(head), count=count, head_deleted=deleted)
        elif count and old is not None:
            new = replace(old, count=count)
        if new != old:
            self.changes.clusters[head] = new
            self._add("clusters", (new is not None) - (old is not None))

    def _list(self, image_id: ImageId) -> None:
        image = self._view.image(image_id)
        if image is None:
            return
        key = (image.head, image.edge_sequence)
        edge = next(self._view.edges_of(image.head, image.edge_sequence - 1), None)
        if edge is None or edge.sequence != image.edge_sequence or not self._is_right(edge):
            self.changes.edges.setdefault(key, image_id)

    def _is_right(self, edge: Edge) -> bool:
        image = self._view.image(edge.member)
        return image is not None and (image.head, image.edge_sequence) == (edge.head, edge.sequence)

    def _anew(self, head: ImageId) -> ClusterRecord:
        """A lost cluster. Of a deleted head nobody knows the code any more, so the cluster takes no image in."""
        image = self._view.image(head)
        embedding = None if image is None else self._view.embedding(image.place)
        code = b"" if embedding is None else embedding.score_code
        return ClusterRecord(head, 0, code, 0 if image is None else image.decided_at_ms)

    def _keep_embeddings(self, place: int) -> None:
        embedding = self._view.embedding(place)
        image = None if embedding is None else self._view.image(embedding.image_id)
        if embedding is not None and (image is None or image.place != place):
            self.changes.embeddings[place] = None

    def _keep_tombstone(self, image_id: ImageId) -> None:
        tombstone, image = self._view.tombstone(image_id), self._view.image(image_id)
        if tombstone is not None and image is not None and image.version > tombstone.version:
            self.changes.tombstones[image_id] = None
            self._add("tombstones", -1)

    def _add(self, name: str, by: int) -> None:
        state = self.changes.state
        self.changes.state = replace(state, **{name: max(0, getattr(state, name) + by)})
