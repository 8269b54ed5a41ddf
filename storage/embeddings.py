"""Reads all embeddings of a store, by place, and all tombstones. An index is rebuilt from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from core.pseudonyms import Pseudonyms
from core.types import ImageId, Tombstone
from storage.interfaces import StoreView
from storage.records import EmbeddingRecord, StoreState

__all__ = ["EmbeddingsPage", "PlacedEmbedding", "embedding_pages"]

T = TypeVar("T")

_ROW_BYTES = 64
"""The bytes of one row or tombstone in a page, beside its texts and vectors, at most."""


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
    tombstones: tuple[Tombstone, ...] = ()
    """In the order of their ids. All of them come before the first rows."""
    pseudonyms: Pseudonyms | None = None
    """By which tombstones of forgotten images are named; None: nothing was forgotten."""


def embedding_pages(view: StoreView, page_bytes: int) -> Iterator[EmbeddingsPage]:
    """All tombstones, then all embeddings by place, in pages of about `page_bytes` bytes. There is always a page."""
    state, names = view.state(), view.pseudonyms()
    for tombstones in _parts(view.tombstones(), _tombstone_bytes, page_bytes):
        yield EmbeddingsPage(state, (), tombstones, names)
    empty = True
    for rows in _parts((_row(view, record) for record in view.embeddings()), _row_bytes, page_bytes):
        empty = False
        yield EmbeddingsPage(state, rows, pseudonyms=names)
    if empty:
        yield EmbeddingsPage(state, (), pseudonyms=names)


def _parts(items: Iterable[T], size_of: Callable[[T], int], most_bytes: int) -> Iterator[tuple[T, ...]]:
    part: list[T] = []
    size = 0
    for item in items:
        item_bytes = size_of(item)
        if part and size + item_bytes > most_bytes:
            yield tuple(part)
            part, size = [], 0
        part.append(item)
        size += item_bytes
    if part:
        yield tuple(part)


def _row_bytes(row: PlacedEmbedding) -> int:
    return len(row.search_vector) + len(row.score_vector) + len(row.image_id.encode()) + _ROW_BYTES


def _tombstone_bytes(tombstone: Tombstone) -> int:
    texts = tombstone.image_id, tombstone.author, tombstone.reason
    return sum(len(text.encode()) for text in texts) + _ROW_BYTES


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
