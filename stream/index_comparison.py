"""Whether the index finds what storage holds: each image, or a sample, asked of both while the stream goes on.

    index                           storage                     problem
    nothing                         an image                    the index does not have it
    another version or place        an image                    both are told
    hidden                          a scored image              no search finds it
    found                           an unscored image           every search finds it
    another score code              its code                    distances are wrong

The two are asked one after the other, so an image may change between the calls, and either may be behind the other.
What looks wrong is looked at again, once both have applied what the other had, until it is right or was wrong `LOOKS`
times.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from core.errors import BusyError
from core.types import ImageId
from search.serving import search_pb2 as pb
from storage.limits import MAX_NAMED_WITH_VECTORS
from storage.selecting import ImageSelection, SelectedImage, SelectedPage
from storage.serving import storage_pb2 as storage_pb

__all__ = ["Compared", "IndexReader", "StorageReader", "compare_with_index"]

LOOKS = 4
"""How often an image is looked at that seems wrong."""

WAIT_S = 1.0
"""Between two looks."""

PATIENCE = 60
"""How often it waits for the one that is behind, or that is busy."""

MOST_SUSPECTS = 10_000
"""Then the comparison ends: an index that differs so much is another one."""

T = TypeVar("T")


class StorageReader(Protocol):
    """What is asked of storage: `storage.serving.client.StorageClient` has it."""

    def select(self, selection: ImageSelection) -> Iterator[SelectedPage]:
        """All images, page by page."""
        ...

    def named(self, ids: Sequence[ImageId], *, vectors: bool = False) -> list[SelectedImage]:
        """The known images among some."""
        ...

    def describe(self) -> storage_pb.DescribeResponse:
        """Its position."""
        ...


class IndexReader(Protocol):
    """What is asked of the index: `search.serving.client.SearchClient` has it."""

    def get(self, image_ids: Sequence[str]) -> pb.GetResponse:
        """The images that were placed."""
        ...

    def stats(self) -> pb.StatsResponse:
        """Its position."""
        ...


@dataclass(frozen=True, slots=True)
class Compared:
    """How far a comparison is."""

    looked_at: int
    """Images of storage that were passed, compared or not."""
    total: int
    compared: int
    problems: dict[ImageId, str]
    """By image; complete in the last report."""


def compare_with_index(
    storage: StorageReader,
    index: IndexReader,
    sample: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Compared]:
    """Compares the images of storage with what the index has of them; reports on the way.

    Args:
        storage: Has all images.
        index: Is asked for each.
        sample: About how many images are compared, always the same ones; None: all.
        sleep: Waits so many seconds.

    Raises:
        UnavailableError: A server does not answer.
    """
    looks = _Looks(storage, index, sleep)
    suspects: list[ImageId] = []
    compared, last = 0, SelectedPage((), 0, 0)
    for last in storage.select(ImageSelection()):
        ids = [each.image.image_id for each in last.images if _in_sample(each.image.image_id, sample, last.total)]
        compared += len(ids)
        suspects += looks.problems(ids)
        yield Compared(last.looked_at, last.total, compared, {})
        if len(suspects) > MOST_SUSPECTS:
            break
    problems: dict[ImageId, str] = {}
    if suspects:
        looks.let_both_catch_up()
    for _ in range(LOOKS - 1):
        if not suspects:
            break
        sleep(WAIT_S)
        problems = looks.problems(suspects)
        suspects = list(problems)
    yield Compared(last.looked_at, last.total, compared, problems)


def _in_sample(image_id: ImageId, sample: int | None, total: int) -> bool:
    return sample is None or zlib.crc32(image_id.encode()) * total < sample << 32


class _Looks:
    """Asks both, as often as a busy server wants."""

    def __init__(self, storage: StorageReader, index: IndexReader, sleep: Callable[[float], None]) -> None:
        self._storage = storage
        self._index = index
        self._sleep = sleep

    def problems(self, ids: Sequence[ImageId]) -> dict[ImageId, str]:
        """What seems wrong with images."""
        found: dict[ImageId, str] = {}
        for at in range(0, len(ids), MAX_NAMED_WITH_VECTORS):
            part = ids[at : at + MAX_NAMED_WITH_VECTORS]
            placed = {each.image_id: each for each in self._patiently(partial(self._index.get, part)).images}
            for stored in self._patiently(partial(self._storage.named, part, vectors=True)):
                image_id = stored.image.image_id
                problem = _problem(stored, placed.get(image_id))
                if problem is not None:
                    found[image_id] = problem
        return found

    def let_both_catch_up(self) -> None:
        """Waits until each has applied what the other has by now, but not for ever."""
        wanted = max(self._storage.describe().offset, self._index.stats().offset)
        for _ in range(PATIENCE):
            if min(self._storage.describe().offset, self._index.stats().offset) >= wanted:
                return
            self._sleep(WAIT_S)

    def _patiently(self, call: Callable[[], T]) -> T:
        for _ in range(PATIENCE):
            try:
                return call()
            except BusyError as error:
                self._sleep(error.retry_after_s or WAIT_S)
        return call()


def _problem(stored: SelectedImage, placed: pb.StoredImage | None) -> str | None:
    """What is wrong with one image; None: nothing."""
    image = stored.image
    if placed is None or placed.deleted:
        return None if image.unscored else "the index does not have it"
    if (placed.image_version, placed.place) != (image.version, image.place):
        return (
            f"the index has version {placed.image_version} at place {placed.place}, storage has version "
            f"{image.version} at place {image.place}"
        )
    if image.unscored:
        return None if placed.hidden or not placed.score_code else "it was not scored, and the index finds it"
    if placed.hidden:
        return "the index hides it"
    code = b"" if stored.embedding is None else stored.embedding.score_code
    return None if placed.score_code == code else "its score code in the index is another one"
