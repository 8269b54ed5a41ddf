"""The sources of an index build: images with both embeddings, in order of place, up to a position of the order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, takewhile
from pathlib import Path
from typing import NamedTuple, Protocol

from core.errors import BadInputError, UnavailableError
from core.pseudonyms import Pseudonyms, is_pseudonym
from core.types import NO_OFFSET, ImageId, LogPosition, Tombstone
from manifests.image_files import ImageFile
from search.index.columns import Kind
from storage.embeddings import EmbeddingsPage, PlacedEmbedding
from stream.start_plan import Log

__all__ = ["Deletes", "FileSource", "ImageSource", "OrderSource", "PlacedImage", "StoreSource", "deletes_of"]


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """One placed version of an image, or a delete. Vectors are little-endian bytes of float16 or float32 numbers."""

    place: int
    image_id: ImageId
    version: int
    search_vector: bytes
    score_vector: bytes
    kind: Kind = Kind.SEARCHABLE
    """`SKIPPED` if search or scorer could not process it: the version has a place and cannot be found. `REMOVED` for a
    delete, which has no vectors."""


class ImageSource(Protocol):
    """Images in order of place."""

    @property
    def images(self) -> int:
        """The number of images."""
        ...

    @property
    def position(self) -> LogPosition:
        """The last record of the order that the images cover."""
        ...

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """By which deletes of forgotten images name them; None: there are none."""
        ...

    @property
    def released(self) -> int:
        """Storage has passed this offset, and the images up to it say what is unscored."""
        ...

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image and every delete that is still remembered, by ascending place."""
        ...


class StoreSource:
    """The embeddings in the storage server, at the moment when this object is made."""

    def __init__(self, pages: Iterator[EmbeddingsPage]) -> None:
        """Reads the first page.

        Raises:
            UnavailableError: The server is down, or the call failed.
        """
        first = next(pages, None)
        if first is None:
            raise UnavailableError("the storage server sent no embeddings")
        self._pages = chain([first], pages)
        self.images = first.state.images
        self.position = first.state.position
        self.released = self.position.offset
        self.pseudonyms = first.pseudonyms

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image and delete; can be iterated once."""
        deletes: list[PlacedImage] = []
        for page in self._pages:
            deletes += map(_delete, page.tombstones)
            if page.rows:
                rows = chain(page.rows, chain.from_iterable(each.rows for each in self._pages))
                return _by_place(deletes, map(_image, rows))
        return _by_place(deletes, ())


class Deletes(NamedTuple):
    """What a store remembers of deleted images."""

    tombstones: Sequence[Tombstone] = ()
    pseudonyms: Pseudonyms | None = None
    """By which tombstones of forgotten images are named."""


def deletes_of(pages: Iterable[EmbeddingsPage]) -> Deletes:
    """All deletes that a store remembers; reads no further than to the first embedding."""
    read = list(takewhile(lambda page: not page.rows, pages))
    names = next((page.pseudonyms for page in read), None)
    return Deletes([one for page in read for one in page.tombstones], names)


class OrderSource:
    """No embeddings: all images come from the order."""

    images = 0
    position = LogPosition()
    pseudonyms = None
    released = NO_OFFSET

    def __iter__(self) -> Iterator[PlacedImage]:
        """Nothing."""
        return iter(())


class FileSource:
    """Parquet files with a column `place`; they cover the order up to their last place."""

    def __init__(
        self,
        paths: Sequence[Path],
        search_dimension: int,
        score_dimension: int,
        log: Log,
        checksum_at: Callable[[int], int | None],
        deletes: Deletes | None = None,
    ) -> None:
        """Opens the files and finds the last place.

        Args:
            paths: The files, in order of place.
            search_dimension: Numbers of a search embedding.
            score_dimension: Numbers of a score embedding.
            log: The topic `joined`; places are positions in it.
            checksum_at: Gives the CRC-32C of the record at a position; None when it is gone.
            deletes: Those that storage remembers. Those after the last place are left to the order.

        Raises:
            BadInputError: A file cannot be read or lacks a column, or `joined` no longer has the last place.
        """
        self._files = [ImageFile(path, search_dimension, score_dimension, with_places=True) for path in paths]
        self.images = sum(file.rows for file in self._files)
        last = max((file.last_place() for file in self._files), default=NO_OFFSET)
        checksum = 0 if last == NO_OFFSET else checksum_at(last)
        if checksum is None and last + 1 == log.first:
            checksum = 0  # retention has removed this very record, so it is never compared
        if checksum is None:
            raise BadInputError(
                f"the files end at place {last}, and joined has no record there: the index could not continue from it"
            )
        self.position = (
            LogPosition("", last, 0) if last == NO_OFFSET else LogPosition(log.topic_id, last, checksum, log.base)
        )
        self.released = NO_OFFSET
        deletes = deletes or Deletes()
        self.pseudonyms = deletes.pseudonyms
        self._forgotten = {one.image_id: one.version for one in deletes.tombstones if is_pseudonym(one.image_id)}
        self._deletes = [_delete(one) for one in deletes.tombstones if one.position <= last]

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image and delete.

        Raises:
            BadInputError: The places do not ascend.
        """
        return _by_place(self._deletes, self._rows())

    def _rows(self) -> Iterator[PlacedImage]:
        last = NO_OFFSET
        for file in self._files:
            for row in file:
                if row.place <= last:
                    raise BadInputError(
                        f"{file.path}: place {row.place} of {row.image_id!r} follows place {last}: sort by place"
                    )
                last = row.place
                if self._is_forgotten(ImageId(row.image_id), row.version):
                    continue
                yield PlacedImage(row.place, ImageId(row.image_id), row.version, row.search.data, row.score.data)

    def _is_forgotten(self, image_id: ImageId, version: int) -> bool:
        """Whether a file has an image that was forgotten. Nothing of it may come back into an index."""
        if self.pseudonyms is None:
            return False
        return version <= self._forgotten.get(self.pseudonyms.of(image_id), -1)


def _image(row: PlacedEmbedding) -> PlacedImage:
    kind = Kind.SKIPPED if row.unscored else Kind.SEARCHABLE
    return PlacedImage(row.place, row.image_id, row.version, row.search_vector, row.score_vector, kind)


def _delete(tombstone: Tombstone) -> PlacedImage:
    return PlacedImage(tombstone.position, tombstone.image_id, tombstone.version, b"", b"", Kind.REMOVED)


def _by_place(deletes: Iterable[PlacedImage], images: Iterable[PlacedImage]) -> Iterator[PlacedImage]:
    """All of them by place; the deletes come in any order and fit into memory."""
    return merge(sorted(deletes, key=_place), images, key=_place)


def _place(image: PlacedImage) -> int:
    return image.place
