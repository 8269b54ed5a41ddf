"""Whether index and storage hold the same images: all of them, or a sample, are asked of both while the stream goes on.

It goes three ways, each in an order that needs no memory: the images of storage by id, its tombstones by id, and what
the index holds by place. `stream.index_differences` says what may be wrong.

It begins once each has applied what the other had. The two are asked one after the other, so an image may change
between the calls, and either may be behind the other. What looks wrong is looked at again, once both have applied what
the other had, until it is right or was wrong `LOOKS` times.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from itertools import chain, islice
from typing import Protocol, TypeVar

from core.errors import BusyError
from core.pseudonyms import is_pseudonym
from core.types import ImageId, Lookup
from search.serving import search_pb2 as pb
from storage.embeddings import EmbeddingsPage
from storage.limits import MAX_NAMED_WITH_VECTORS
from storage.selecting import ImageSelection, SelectedImage, SelectedPage
from storage.serving import storage_pb2 as storage_pb
from stream.index_differences import Difference, of_delete, of_image, of_listed

__all__ = ["Compared", "IndexReader", "Side", "StorageReader", "compare_with_index"]

LOOKS = 4
"""How often an image is looked at that seems wrong."""

WAIT_S = 1.0
"""Between two looks."""

PATIENCE = 60
"""How often it waits for the one that is behind, or that is busy."""

MOST_SUSPECTS = 10_000
"""Then the comparison ends early: an index that differs so much is another one, or far behind."""

T = TypeVar("T")


class StorageReader(Protocol):
    """What is asked of storage: `storage.serving.client.StorageClient` has it."""

    def select(self, selection: ImageSelection) -> Iterator[SelectedPage]:
        """All images, page by page."""
        ...

    def embeddings(self) -> Iterator[EmbeddingsPage]:
        """All tombstones, page by page, before the embeddings."""
        ...

    def named(self, ids: Sequence[ImageId], *, vectors: bool = False) -> list[SelectedImage]:
        """The known images among some."""
        ...

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        """Versions and places, or tombstones, of the known images among some."""
        ...

    def describe(self) -> storage_pb.DescribeResponse:
        """Its position."""
        ...


class IndexReader(Protocol):
    """What is asked of the index: `search.serving.client.SearchClient` has it."""

    def get(self, image_ids: Sequence[str], places: Sequence[int] = ()) -> pb.GetResponse:
        """The images that were placed, and what is listed at places."""
        ...

    def list_page(self, after: int, limit: int = 0, share: int = 0) -> pb.ListResponse:
        """What it holds after a place."""
        ...

    def stats(self) -> pb.StatsResponse:
        """Its position, and how much it holds."""
        ...


class Side(StrEnum):
    """What a comparison passes, in this order."""

    IMAGES = "images of storage"
    DELETES = "deletes of storage"
    INDEX = "images and deletes of the index"


@dataclass(frozen=True, slots=True)
class Compared:
    """How far a comparison is."""

    side: Side
    looked_at: int
    """Of this side: images and deletes that were passed, compared or not."""
    total: int
    """Of this side, about."""
    compared: dict[Side, int]
    problems: dict[ImageId, Difference] = field(default_factory=dict)
    """By image; complete in the last report."""
    cut_short: bool = False
    """In the last report: it ended early, so the rest of this side was not compared, nor the sides after it."""


def compare_with_index(
    storage: StorageReader,
    index: IndexReader,
    sample: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Compared]:
    """Compares what storage and the index hold; reports on the way.

    Args:
        storage: Has all images.
        index: Is asked for each, and for what it has beside them.
        sample: About how many are compared of each side, always the same ones; None: all.
        sleep: Waits so many seconds.

    Raises:
        UnavailableError: A server does not answer.
    """
    yield from _Comparison(storage, index, sample, sleep).run()


@dataclass(slots=True)
class _Suspects:
    """What seems wrong."""

    images: list[ImageId] = field(default_factory=list)
    deletes: list[ImageId] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    """Of the index."""

    def __len__(self) -> int:
        return len(self.images) + len(self.deletes) + len(self.places)


class _Comparison:
    """One comparison, and how far it is."""

    def __init__(
        self, storage: StorageReader, index: IndexReader, sample: int | None, sleep: Callable[[float], None]
    ) -> None:
        self._looks = _Looks(storage, index, sleep)
        self._sample = sample
        self._sleep = sleep
        self._suspects = _Suspects()
        self._compared = dict.fromkeys(Side, 0)
        self._tombstones = 0

    def run(self) -> Iterator[Compared]:
        self._looks.let_both_catch_up()
        last, cut_short = None, False
        for last in chain(self._images(), self._deletes(), self._index()):
            yield last
            if len(self._suspects) > MOST_SUSPECTS:
                cut_short = True
                break
        assert last is not None  # every side reports
        yield replace(last, problems=self._problems(), cut_short=cut_short)

    def _images(self) -> Iterator[Compared]:
        for page in self._looks.images_of_storage():
            ids = [each.image.image_id for each in page.images]
            chosen = [each for each in ids if _in_sample(each, self._sample, page.total)]
            self._suspects.images += self._looks.images(chosen)
            yield self._report(Side.IMAGES, page.looked_at, page.total, len(chosen))

    def _deletes(self) -> Iterator[Compared]:
        looked_at = 0
        for page in self._looks.tombstones_of_storage():
            self._tombstones = page.state.tombstones
            ids = [each.image_id for each in page.tombstones]
            chosen = [each for each in ids if _in_sample(each, self._sample, self._tombstones)]
            self._suspects.deletes += self._looks.deletes(chosen)
            looked_at += len(ids)
            yield self._report(Side.DELETES, looked_at, self._tombstones, len(chosen))

    def _index(self) -> Iterator[Compared]:
        total = self._looks.images_of_index() + self._tombstones
        share = 0 if self._sample is None or self._sample >= total else (self._sample << 32) // total
        looked_at = 0
        for page in self._looks.pages_of_index(share):
            self._suspects.places += self._looks.listed(page.images)
            looked_at += len(page.images) if share == 0 else (len(page.images) << 32) // share
            yield self._report(Side.INDEX, min(looked_at, total), total, len(page.images))

    def _report(self, side: Side, looked_at: int, total: int, compared: int) -> Compared:
        self._compared[side] += compared
        return Compared(side, looked_at, total, dict(self._compared))

    def _problems(self) -> dict[ImageId, Difference]:
        """What is still wrong with the suspects after several looks."""
        suspects, looks = self._suspects, self._looks
        problems: dict[ImageId, Difference] = {}
        if suspects:
            looks.let_both_catch_up()
        for _ in range(LOOKS - 1):
            if not suspects:
                break
            self._sleep(WAIT_S)
            listed = looks.at(suspects.places)
            deletes = looks.deletes(suspects.deletes)
            images = looks.images(suspects.images)
            problems = dict(listed.values()) | deletes | images
            suspects = _Suspects(list(images), list(deletes), list(listed))
        return problems


def _in_sample(image_id: ImageId, sample: int | None, total: int) -> bool:
    return sample is None or zlib.crc32(image_id.encode()) * total < sample << 32


class _Looks:
    """Asks both, as often as a busy server wants."""

    def __init__(self, storage: StorageReader, index: IndexReader, sleep: Callable[[float], None]) -> None:
        self._storage = storage
        self._index = index
        self._sleep = sleep

    def images_of_storage(self) -> Iterator[SelectedPage]:
        """All of them, by id."""
        return self._stream(lambda: self._storage.select(ImageSelection()))

    def tombstones_of_storage(self) -> Iterator[EmbeddingsPage]:
        """All of them, by id; and one page without any at the end."""
        for page in self._stream(self._storage.embeddings):
            yield page
            if not page.tombstones:
                return

    def images_of_index(self) -> int:
        """How many it finds."""
        return self._index.stats().images

    def pages_of_index(self, share: int) -> Iterator[pb.ListResponse]:
        """What it holds, by place: all, or a share of 2^32."""
        after, complete = -1, False
        while not complete:
            page = self._patiently(partial(self._index.list_page, after, share=share))
            yield page
            after, complete = page.through, page.complete

    def images(self, ids: Sequence[ImageId]) -> dict[ImageId, Difference]:
        """What seems wrong with images that storage has."""
        found: dict[ImageId, Difference] = {}
        for part in _parts(ids):
            placed = self._placed(part)
            for stored in self._patiently(partial(self._storage.named, part, vectors=True)):
                image_id = stored.image.image_id
                _add(found, image_id, of_image(stored, placed.get(image_id)))
        return found

    def deletes(self, ids: Sequence[ImageId]) -> dict[ImageId, Difference]:
        """What seems wrong with images that storage has deleted. Forgotten ones are named by their pseudonyms.

        The index may call these otherwise, so it is asked what lies at the position of the record that deleted them.
        """
        found: dict[ImageId, Difference] = {}
        for part in _parts(ids):
            tombstones = self._patiently(partial(self._storage.look_up, part)).tombstones
            placed = self._placed([each for each in tombstones if not is_pseudonym(each)])
            forgotten = [tombstones[each].position for each in tombstones if is_pseudonym(each)]
            listed = {each.place: each for each in self._at(forgotten) if each.deleted}
            for image_id, tombstone in tombstones.items():
                here = listed.get(tombstone.position) if is_pseudonym(image_id) else placed.get(image_id)
                _add(found, image_id, of_delete(tombstone, here))
        return found

    def listed(self, images: Sequence[pb.StoredImage]) -> dict[int, tuple[ImageId, Difference]]:
        """What seems wrong with what the index has listed, by place."""
        found: dict[int, tuple[ImageId, Difference]] = {}
        if images:
            storage = self._patiently(partial(self._storage.look_up, [ImageId(each.image_id) for each in images]))
            for each in images:
                difference = of_listed(each, storage)
                if difference is not None:
                    found[each.place] = ImageId(each.image_id), difference
        return found

    def at(self, places: Sequence[int]) -> dict[int, tuple[ImageId, Difference]]:
        """What seems wrong with what the index lists at places."""
        found: dict[int, tuple[ImageId, Difference]] = {}
        for part in _parts(places):
            found |= self.listed(self._at(part))
        return found

    def let_both_catch_up(self) -> None:
        """Waits until each has applied what the other has by now, but not for ever."""
        wanted = max(self._storage.describe().offset, self._index.stats().offset)
        for _ in range(PATIENCE):
            if min(self._storage.describe().offset, self._index.stats().offset) >= wanted:
                return
            self._sleep(WAIT_S)

    def _placed(self, ids: Sequence[ImageId]) -> dict[str, pb.StoredImage]:
        if not ids:
            return {}
        return {each.image_id: each for each in self._patiently(partial(self._index.get, ids)).images}

    def _at(self, places: Sequence[int]) -> Sequence[pb.StoredImage]:
        return self._patiently(partial(self._index.get, (), places)).listed if places else ()

    def _stream(self, begin: Callable[[], Iterator[T]]) -> Iterator[T]:
        """The pages of a streaming call."""
        pages, first = self._patiently(lambda: _begun(begin()))
        yield from first
        yield from pages

    def _patiently(self, call: Callable[[], T]) -> T:
        for _ in range(PATIENCE):
            try:
                return call()
            except BusyError as error:
                self._sleep(error.retry_after_s or WAIT_S)
        return call()


def _begun(pages: Iterator[T]) -> tuple[Iterator[T], list[T]]:
    """A stream after its first page, and that page if there is one: a busy server refuses a stream when it begins."""
    first = list(islice(pages, 1))
    return pages, first


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """What one call takes."""
    return (items[at : at + MAX_NAMED_WITH_VECTORS] for at in range(0, len(items), MAX_NAMED_WITH_VECTORS))


def _add(found: dict[ImageId, Difference], image_id: ImageId, difference: Difference | None) -> None:
    if difference is not None:
        found[image_id] = difference
