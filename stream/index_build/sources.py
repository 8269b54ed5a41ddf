"""Where an index is built from: images with both embeddings, in order of place, up to a position of the order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import BadInputError, UnavailableError
from core.types import NO_OFFSET, ImageId, LogPosition
from storage.embeddings import EmbeddingsPage
from stream.image_files import ImageFile

__all__ = ["FileSource", "ImageSource", "PlacedImage", "StoreSource"]


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """One placed version of an image. Vectors are the little-endian bytes of float16 or float32 numbers."""

    place: int
    image_id: ImageId
    version: int
    search_vector: bytes
    score_vector: bytes
    findable: bool = True
    """False where search or scorer could not take it: the version has its place, and nobody finds it."""


class ImageSource(Protocol):
    """Images in order of place."""

    @property
    def images(self) -> int:
        """How many there are."""
        ...

    @property
    def position(self) -> LogPosition:
        """The last record of the order that they cover."""
        ...

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image, places ascending."""
        ...


class StoreSource:
    """The embeddings of the storage server, of the moment when this is made."""

    def __init__(self, pages: Iterator[EmbeddingsPage]) -> None:
        """Reads the first page.

        Raises:
            UnavailableError: The server is down, or broke off.
        """
        first = next(pages, None)
        if first is None:
            raise UnavailableError("the storage server sent no embeddings")
        self._first = first
        self._rest = pages
        self.images = first.state.images
        self.position = first.state.position

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image; once."""
        yield from self._of(self._first)
        for page in self._rest:
            yield from self._of(page)

    @staticmethod
    def _of(page: EmbeddingsPage) -> Iterator[PlacedImage]:
        for row in page.rows:
            yield PlacedImage(
                row.place, row.image_id, row.version, row.search_vector, row.score_vector, not row.unscored
            )


class FileSource:
    """Parquet files with a column `place`, which cover the order up to the last place in them."""

    def __init__(
        self,
        paths: Sequence[Path],
        search_dimension: int,
        score_dimension: int,
        log_id: str,
        checksum_at: Callable[[int], int | None],
    ) -> None:
        """Opens the files and finds the last place.

        Args:
            paths: The files, in order of place.
            search_dimension: Of the search embedding.
            score_dimension: Of the score embedding.
            log_id: Topic id of `joined`, whose offsets the places are.
            checksum_at: CRC-32C of the record at an offset of it; None where it is gone.

        Raises:
            BadInputError: A file cannot be read or lacks a column, or `joined` no longer has the last place.
        """
        self._files = [ImageFile(path, search_dimension, score_dimension, with_places=True) for path in paths]
        self.images = sum(file.rows for file in self._files)
        last = max((file.last_place() for file in self._files), default=NO_OFFSET)
        checksum = 0 if last == NO_OFFSET else checksum_at(last)
        if checksum is None:
            raise BadInputError(
                f"the files end at place {last}, which joined does not have: the index could not go on from there"
            )
        self.position = LogPosition("" if last == NO_OFFSET else log_id, last, checksum)

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image.

        Raises:
            BadInputError: The places do not ascend.
        """
        last = NO_OFFSET
        for file in self._files:
            for row in file:
                if row.place <= last:
                    raise BadInputError(
                        f"{file.path}: place {row.place} of {row.image_id!r} comes after place {last}: sort by place"
                    )
                last = row.place
                yield PlacedImage(row.place, ImageId(row.image_id), row.version, row.search.data, row.score.data)
