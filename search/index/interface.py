"""What a term index is to the rest: the records it takes, the answers it gives, and the laws it keeps.

The laws:

- Records carry consecutive offsets of one log. An offset beyond the next one, or another log, is refused with
  `LogGapError`; an offset applied before is searched again, never applied again.
- The place of an image version is the offset of the first record that carried it. A later record of the same version
  is answered as the first one was, with the first one's place.
- A record whose version is below one placed before it is superseded: it gets no candidates. A higher version hides
  the image's earlier entry from all later places; searches as of earlier places still see it.
- A search as of a place sees exactly the entries before it that are not hidden from it, never the image itself, so
  it gives the same answer for ever. Its answer is exact: by overlap, highest first, then by place, oldest first.
- All records of one call are in the index before the first is searched for.
- What was acknowledged survives the process.

One thread may write at a time (implementations see to it); any number may search meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.types import Candidate, ImageId, LogPosition

__all__ = ["NO_PLACE", "Answer", "Found", "Insert", "MoreQuery", "Record", "Skip", "TermIndex"]

NO_PLACE = -1
"""The place of a record that the index passed without an image."""


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """A record that brings an image version: its terms (one value per group) and its packed score code."""

    offset: int
    checksum: int
    """CRC-32C of the record's bytes."""
    image_id: ImageId
    version: int
    terms: NDArray[np.uint32]
    code: bytes


@dataclass(frozen=True, slots=True)
class Skip:
    """A record whose image cannot be indexed; its offset is passed.

    It still places its version, so that an earlier version is hidden and a later record of the same version is passed
    as well. `image_id` is "" when the record could not be read at all: then only the offset is passed.
    """

    offset: int
    checksum: int
    image_id: ImageId
    version: int


Record = Insert | Skip
"""One record of the log, as the index takes it."""


@dataclass(frozen=True, slots=True)
class MoreQuery:
    """Asks for the candidates of an indexed place that follow the first `after` ones."""

    place: int
    after: int


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Candidates, by overlap (highest first), then by place (oldest first); the columns have equal length."""

    image_ids: tuple[ImageId, ...]
    overlaps: NDArray[np.uint16]
    places: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """(n, code bytes)"""
    exhausted: bool
    """Nothing follows these candidates."""
    postings: int = 0
    """How many postings the search touched: its work."""

    def candidates(self) -> tuple[Candidate, ...]:
        """The same as records."""
        columns = zip(self.image_ids, self.places.tolist(), self.overlaps.tolist(), self.codes, strict=True)
        return tuple(Candidate(image_id, place, overlap, code.tobytes()) for image_id, place, overlap, code in columns)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the index says to one record."""

    offset: int
    place: int
    """Of this image version; below `offset` when it was placed before; `NO_PLACE` when it was skipped."""
    code: bytes
    """The score code that was placed; b"" when skipped."""
    found: Found
    superseded: bool = False
    """A higher version was placed before this record."""


class TermIndex(ABC):
    """An index of terms that follows one log."""

    @abstractmethod
    def insert_and_search(self, log_id: str, records: Sequence[Record]) -> list[Answer]:
        """Applies the records that are new and searches for all of them.

        Args:
            log_id: The log the records are from; the first records applied fix it for ever.
            records: Consecutive offsets, the first at most one after the last applied.

        Returns:
            One answer per record, in order.

        Raises:
            LogGapError: The offsets leave a gap, or the records are from another log.
            BadInputError: The offsets are not consecutive, or terms or code have the wrong size.
            UnavailableError: The records could not be written; nothing was applied.
        """

    @abstractmethod
    def search_more(self, queries: Sequence[MoreQuery]) -> list[Found]:
        """The next k candidates of images that were inserted before, as of their places.

        Raises:
            RefusedError: There is no image at a place; `offset` names it.
        """

    @abstractmethod
    def hide(self, place: int) -> None:
        """Hides the image at a place from all places after the last record applied; does nothing when it is hidden.

        A place at which nothing was inserted is passed over.

        Raises:
            RefusedError: The place was not applied yet.
            UnavailableError: It could not be written; nothing was hidden.
        """

    @property
    @abstractmethod
    def position(self) -> LogPosition:
        """The last record applied."""

    @property
    @abstractmethod
    def images(self) -> int:
        """How many images a search from the next place can find."""

    @property
    @abstractmethod
    def disk_bytes(self) -> int:
        """The size of the index on disk."""

    @abstractmethod
    def close(self) -> None:
        """Waits for the writer, then closes the files; later calls raise `UnavailableError`."""
