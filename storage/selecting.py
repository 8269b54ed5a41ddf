"""Which images a store holds: named ones, or all of a cluster, a time or a cause. Pure reads of one view.

A replay and its report rest on them: what the last verdict on each image says, and whether its embeddings are there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from core.errors import BadInputError
from core.types import Cause, ImageId, Trigger
from storage.interfaces import StoreView
from storage.records import EmbeddingRecord, ImageRecord

__all__ = ["LOOKED_AT", "ImageSelection", "SelectedImage", "SelectedPage", "named_images", "selected_pages"]

LOOKED_AT = 20_000
"""After so many images that do not match, a page is given out with what was found, so that a reader sees progress."""


@dataclass(frozen=True, slots=True)
class ImageSelection:
    """Which images are wanted: those for which all of this holds.

    Raises:
        BadInputError: The time ends before it begins.
    """

    head: ImageId | None = None
    """Members of this cluster."""
    since_ms: int | None = None
    """Decided at this time or later, in milliseconds since the epoch."""
    until_ms: int | None = None
    """Decided before this time."""
    causes: frozenset[Cause] = frozenset()
    """The last verdict has one of these causes; empty: any."""

    def __post_init__(self) -> None:
        if self.since_ms is not None and self.until_ms is not None and self.since_ms > self.until_ms:
            raise BadInputError(f"the time ends ({self.until_ms}) before it begins ({self.since_ms})")

    def holds(self, image: ImageRecord) -> bool:
        """Whether an image is wanted."""
        return (
            (self.head is None or image.head == self.head)
            and (self.since_ms is None or image.decided_at_ms >= self.since_ms)
            and (self.until_ms is None or image.decided_at_ms < self.until_ms)
            and (not self.causes or image.cause in self.causes)
        )


@dataclass(frozen=True, slots=True)
class SelectedImage:
    """The last verdict on an image."""

    image: ImageRecord
    replayable: bool
    """Both vectors are stored, so that the index can take the image again."""
    embedding: EmbeddingRecord | None = None
    """Where it was asked for and is stored."""
    trigger: Trigger | None = None
    """Where it was asked for: what gave it its head. None: history does not say, since that change is not kept any
    more, or is part of a bulk move that is under way."""


@dataclass(frozen=True, slots=True)
class SelectedPage:
    """Some of the images, and how many of the store's (or the cluster's) were looked at so far, of how many."""

    images: tuple[SelectedImage, ...]
    looked_at: int
    total: int


def named_images(
    view: StoreView, ids: Iterable[ImageId], *, vectors: bool = False, triggers: bool = False
) -> Iterator[SelectedImage]:
    """The known images among some, each once, in the order in which they are named.

    Args:
        view: The store, as of one moment.
        ids: The images.
        vectors: Whether their embeddings are wanted.
        triggers: Whether it is wanted what gave them their heads.
    """
    for image_id in dict.fromkeys(ids):
        image = view.image(image_id)
        if image is not None:
            found = _selected(view, image, vectors)
            yield replace(found, trigger=_trigger(view, image)) if triggers else found


def selected_pages(view: StoreView, selection: ImageSelection, page_images: int) -> Iterator[SelectedPage]:
    """The images of a selection: members by the time at which they joined, else by the bytes of their ids.

    Args:
        view: The store, as of one moment.
        selection: Which images.
        page_images: The most of one page, from 1.
    """
    if selection.head is None:
        images, total = view.images(), view.state().images
    else:
        cluster = view.cluster(selection.head)
        images, total = _members(view, selection.head), 0 if cluster is None else cluster.count
    found: list[SelectedImage] = []
    looked_at = waits = 0
    for image in images:
        looked_at, waits = looked_at + 1, waits + 1
        if selection.holds(image):
            found.append(_selected(view, image, vectors=False))
        if len(found) == page_images or waits == LOOKED_AT:
            yield SelectedPage(tuple(found), looked_at, total)
            found, waits = [], 0
    yield SelectedPage(tuple(found), looked_at, total)


def _members(view: StoreView, head: ImageId) -> Iterator[ImageRecord]:
    for edge in view.edges_of(head, 0):
        image = view.image(edge.member)
        if image is not None:
            yield image


def _trigger(view: StoreView, image: ImageRecord) -> Trigger | None:
    """Of the last change of an image's head."""
    last = None
    for entry in view.history_of(image.image_id):
        if entry.old_head != entry.new_head:
            last = entry
    return last.trigger if last is not None and last.new_head == image.head else None


def _selected(view: StoreView, image: ImageRecord, vectors: bool) -> SelectedImage:
    found = view.embedding(image.place)
    replayable = found is not None and bool(found.search_vector and found.score_vector)
    return SelectedImage(image, replayable, found if vectors else None)
