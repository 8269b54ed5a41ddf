"""Whether the index finds what storage holds: each image, or a sample, asked of both while the stream goes on.

    index                           storage                     problem
    nothing                         an image                    the index does not have it
    another version or place        an image                    both are told
    hidden                          a scored image              no search finds it
    found                           an unscored image           every search finds it
    another score code              its code                    distances are wrong

The two are asked one after the other, so an image may move between the calls. What looks wrong is looked at again,
until it is right or has been wrong `LOOKS` times.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.types import ImageId
from search.serving import search_pb2 as pb
from storage.limits import MAX_NAMED_WITH_VECTORS
from storage.selecting import ImageSelection, SelectedImage, SelectedPage

__all__ = ["Compared", "IndexReader", "StorageReader", "compare_with_index"]

LOOKS = 4
"""How often an image is looked at that seems wrong."""

WAIT_S = 1.0
"""Between two looks: the job is not so far behind."""


class StorageReader(Protocol):
    """What is asked of storage: `storage.serving.client.StorageClient` has it."""

    def select(self, selection: ImageSelection) -> Iterator[SelectedPage]:
        """All images, page by page."""
        ...

    def named(self, ids: Sequence[ImageId], *, vectors: bool = False) -> list[SelectedImage]:
        """The known images among some."""
        ...


class IndexReader(Protocol):
    """What is asked of the index: `search.serving.client.SearchClient` has it."""

    def get(self, image_ids: Sequence[str]) -> pb.GetResponse:
        """The images that were placed."""
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
    suspects: list[ImageId] = []
    compared, last = 0, SelectedPage((), 0, 0)
    for last in storage.select(ImageSelection()):
        ids = [each.image.image_id for each in last.images if _in_sample(each.image.image_id, sample, last.total)]
        compared += len(ids)
        suspects += _problems(storage, index, ids)
        yield Compared(last.looked_at, last.total, compared, {})
    problems: dict[ImageId, str] = {}
    for _ in range(LOOKS - 1):
        if not suspects:
            break
        sleep(WAIT_S)
        problems = _problems(storage, index, suspects)
        suspects = list(problems)
    yield Compared(last.looked_at, last.total, compared, problems)


def _in_sample(image_id: ImageId, sample: int | None, total: int) -> bool:
    return sample is None or zlib.crc32(image_id.encode()) * total < sample << 32


def _problems(storage: StorageReader, index: IndexReader, ids: Sequence[ImageId]) -> dict[ImageId, str]:
    found: dict[ImageId, str] = {}
    for at in range(0, len(ids), MAX_NAMED_WITH_VECTORS):
        part = ids[at : at + MAX_NAMED_WITH_VECTORS]
        placed = {each.image_id: each for each in index.get(part).images}
        for stored in storage.named(part, vectors=True):
            image_id = stored.image.image_id
            problem = _problem(stored, placed.get(image_id))
            if problem is not None:
                found[image_id] = problem
    return found


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
