"""The sources of an index build: images with both embeddings, in order of place, up to a position of the order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.errors import BadInputError, BusyError, UnavailableError
from core.types import NO_OFFSET, ImageId, LogPosition
from storage.embeddings import EmbeddingsPage
from stream.image_files import ImageFile
from stream.start_plan import Log

__all__ = ["FileSource", "ImageSource", "PlacedImage", "StoreSource"]

_PATIENCE_S = 600.0
"""How long a build waits for its turn. The server ends a reading that stalls much earlier."""


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """One placed version of an image. Vectors are the little-endian bytes of float16 or float32 numbers."""

    place: int
    image_id: ImageId
    version: int
    search_vector: bytes
    score_vector: bytes
    findable: bool = True
    """False if search or scorer could not process it: the version has a place and cannot be found."""


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
    def released(self) -> int:
        """Storage has passed this offset, and the images up to it say what is unscored."""
        ...

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image, by ascending place."""
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
        self._first = first
        self._rest = pages
        self.images = first.state.images
        self.position = first.state.position
        self.released = self.position.offset

    @classmethod
    def in_turn(
        cls,
        read: Callable[[], Iterator[EmbeddingsPage]],
        tell: Callable[[str], None],
        patience_s: float = _PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> StoreSource:
        """Waits while another caller reads the embeddings, because one reading runs at a time.

        Args:
            read: Asks for all embeddings.
            tell: Told once why it waits.
            patience_s: How long it waits at most.
            sleep: Waits; takes seconds.

        Raises:
            BusyError: Others read for so long.
            UnavailableError: The server is down, or the call failed.
        """
        waited_s = 0.0
        while True:
            try:
                return cls(read())
            except BusyError as error:
                wait_s = error.retry_after_s or 1.0
                if waited_s >= patience_s:
                    raise
                if not waited_s:
                    tell(f"waiting for at most {patience_s:.0f} s: {error}")
                sleep(wait_s)
                waited_s += wait_s

    def __iter__(self) -> Iterator[PlacedImage]:
        """Every image; can be iterated once."""
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
    """Parquet files with a column `place`; they cover the order up to their last place."""

    def __init__(
        self,
        paths: Sequence[Path],
        search_dimension: int,
        score_dimension: int,
        log: Log,
        checksum_at: Callable[[int], int | None],
    ) -> None:
        """Opens the files and finds the last place.

        Args:
            paths: The files, in order of place.
            search_dimension: Numbers of a search embedding.
            score_dimension: Numbers of a score embedding.
            log: The topic `joined`; places are positions in it.
            checksum_at: Gives the CRC-32C of the record at a position; None when it is gone.

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
                        f"{file.path}: place {row.place} of {row.image_id!r} follows place {last}: sort by place"
                    )
                last = row.place
                yield PlacedImage(row.place, ImageId(row.image_id), row.version, row.search.data, row.score.data)
