"""Reading all embeddings of a store, by place: what an index is built anew from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.types import Cause, ImageId
from storage.interfaces import StoreView
from storage.records import EmbeddingRecord, StoreState

__all__ = ["EmbeddingsPage", "PlacedEmbedding", "embedding_pages"]

_ROW_BYTES = 64
"""Of one row in a page, beside its id and vectors, at most."""


@dataclass(frozen=True, slots=True)
class PlacedEmbedding:
    """The latest version of one image, as an index needs it. Vectors are the bytes of the notification."""

    place: int
    image_id: ImageId
    version: int
    search_vector: bytes
    score_vector: bytes
    unscored: bool
    """Search or scorer could not take the image: no later image may find it."""


@dataclass(frozen=True, slots=True)
class EmbeddingsPage:
    """Some rows, in order of place, and the moment that all pages of one reading are of."""

    state: StoreState
    rows: tuple[PlacedEmbedding, ...]


def embedding_pages(view: StoreView, page_bytes: int) -> Iterator[EmbeddingsPage]:
    """All embeddings, by place, in pages of about so many bytes; there is always one, if an empty one."""
    state = view.state()
    rows: list[PlacedEmbedding] = []
    size = 0
    for record in view.embeddings():
        row = _row(view, record)
        row_bytes = len(row.search_vector) + len(row.score_vector) + len(row.image_id.encode()) + _ROW_BYTES
        if rows and size + row_bytes > page_bytes:
            yield EmbeddingsPage(state, tuple(rows))
            rows, size = [], 0
        rows.append(row)
        size += row_bytes
    yield EmbeddingsPage(state, tuple(rows))


def _row(view: StoreView, record: EmbeddingRecord) -> PlacedEmbedding:
    image = view.image(record.image_id)
    return PlacedEmbedding(
        place=record.place,
        image_id=record.image_id,
        version=record.version,
        search_vector=record.search_vector,
        score_vector=record.score_vector,
        unscored=image is not None and image.place == record.place and image.cause is Cause.UNSCORED,
    )
