"""Reads all embeddings of a store, by place. An index is rebuilt from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.types import ImageId
from storage.interfaces import StoreView
from storage.records import EmbeddingRecord, StoreState

__all__ = ["EmbeddingsPage", "PlacedEmbedding", "embedding_pages"]

_ROW_BYTES = 64
"""The bytes of one row in a page, beside its id and vectors, at most."""


@dataclass(frozen=True, slots=True)
class PlacedEmbedding:
    """The latest version of one image, as an index needs it. Vectors are the bytes of the notification."""

    place: int
    image_id: ImageId
    version: int
    search_vector: bytes
    score_vector: bytes
    unscored: bool
    """The image could not be searched or scored, so it is excluded from the searches of later images."""


@dataclass(frozen=True, slots=True)
class EmbeddingsPage:
    """Rows in order of place, and the state of the store at the moment that all pages show."""

    state: StoreState
    rows: tuple[PlacedEmbedding, ...]


def embedding_pages(view: StoreView, page_bytes: int) -> Iterator[EmbeddingsPage]:
    """All embeddings, by place, in pages of about `page_bytes` bytes. There is always a page, even an empty one."""
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
        unscored=image is not None and image.place == record.place and image.unscored,
    )
