"""A store and an index in memory, as `stream.index_comparison` asks for them: without servers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from core.types import ImageId, Lookup
from search.index.interface import TermIndex
from search.serving import search_pb2 as pb
from search.serving.messages import stored_message
from storage.embeddings import EmbeddingsPage, embedding_pages
from storage.memory import MemoryStore
from storage.selecting import ImageSelection, SelectedImage, SelectedPage, named_images, selected_pages
from storage.serving import storage_pb2 as storage_pb
from stream.index_comparison import Compared, compare_with_index

__all__ = ["IndexAsked", "StoreAsked", "compared"]


class StoreAsked:
    """A `StorageReader` with small pages."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def select(self, selection: ImageSelection) -> Iterator[SelectedPage]:
        with self.store.snapshot() as view:
            yield from selected_pages(view, selection, 7)

    def embeddings(self) -> Iterator[EmbeddingsPage]:
        with self.store.snapshot() as view:
            yield from embedding_pages(view, 300)

    def named(self, ids: Sequence[ImageId], *, vectors: bool = False) -> list[SelectedImage]:
        with self.store.snapshot() as view:
            return list(named_images(view, ids, vectors=vectors))

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        return self.store.look_up(ids)

    def describe(self) -> storage_pb.DescribeResponse:
        return storage_pb.DescribeResponse(offset=self.store.position().offset)


class IndexAsked:
    """An `IndexReader` with small pages."""

    def __init__(self, index: TermIndex) -> None:
        self.index = index

    def get(self, image_ids: Sequence[str], places: Sequence[int] = ()) -> pb.GetResponse:
        found = self.index.get([ImageId(each) for each in image_ids])
        listed = self.index.list_at(places)
        return pb.GetResponse(
            images=[stored_message(each) for each in found if each is not None],
            listed=[stored_message(each) for each in listed if each is not None],
        )

    def list_page(self, after: int, limit: int = 0, share: int = 0) -> pb.ListResponse:
        page = self.index.list_page(after, limit or 5, share or None)
        return pb.ListResponse(images=map(stored_message, page.entries), through=page.through, complete=page.complete)

    def stats(self) -> pb.StatsResponse:
        return pb.StatsResponse(offset=self.index.position.offset, images=self.index.images)


def compared(index: TermIndex, store: MemoryStore) -> Compared:
    """Both, compared whole; nothing changes meanwhile."""
    return list(compare_with_index(StoreAsked(store), IndexAsked(index), sleep=lambda wait_s: None))[-1]
