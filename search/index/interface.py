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
- A bound on the postings of one query (`max_postings`) may be set; a search that reached it says so
  (`SearchResult.truncated`), and is then exact over the oldest postings of each of its lists.
- Once storage is past an offset (`release`), searches as of it and of earlier places need no answer any more: what they
  alone could see may be dropped. Image versions and their places are kept for ever.
- What was acknowledged survives the process.

One thread may write at a time (implementations see to it); any number may search meanwhile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.types import Candidate, ImageId, LogPosition

__all__ = [
    "NO_IMAGE",
    "NO_PLACE",
    "Answer",
    "IndexBytes",
    "IndexStats",
    "Insert",
    "MoreQuery",
    "Ranked",
    "Record",
    "Remove",
    "SearchResult",
    "Skip",
    "Stored",
    "TermIndex",
    "TermQuery",
]

NO_PLACE = -1
"""The place of a record that the index passed without an image."""

NO_IMAGE = ImageId("")
"""No image has this id."""


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


@dataclass(frozen=True, slots=True)
class Remove:
    """A record that deletes an image: it places a version that cannot be found and hides the one before it.

    It is answered without candidates. A version at or below the one placed last deletes nothing.
    """

    offset: int
    checksum: int
    image_id: ImageId
    version: int


Record = Insert | Skip | Remove
"""One record of the log, as the index takes it."""


@dataclass(frozen=True, slots=True)
class MoreQuery:
    """Asks for the candidates of an indexed place that follow the first `after` ones."""

    place: int
    after: int


@dataclass(frozen=True, slots=True, eq=False)
class TermQuery:
    """A search by terms that changes nothing: of a person, a replay, a shadow."""

    terms: NDArray[np.uint32]
    """(groups,)"""
    k: int
    """How many candidates to return at most."""
    after: int = 0
    """How many candidates to pass over."""
    min_overlap: int | None = None
    """The fewest shared terms of a candidate; None: that of the index."""
    as_of: int | None = None
    """The place before which everything visible from there is searched; None: everything there is now."""
    without: ImageId = NO_IMAGE
    """An image that is not to be found; `NO_IMAGE`: any may be."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The bare answers of many searches, best candidate first; row i of each array belongs to query i."""

    places: NDArray[np.int64]
    """(n, k); rows are filled up to `sizes`."""
    overlaps: NDArray[np.uint16]
    """(n, k)"""
    sizes: NDArray[np.int64]
    """(n,)"""
    exhausted: NDArray[np.bool_]
    """(n,) nothing follows these candidates."""
    truncated: NDArray[np.bool_]
    """(n,) `max_postings` was reached."""
    postings: NDArray[np.int64]
    """(n,) how many postings each search touched."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
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
    truncated: bool = False
    """`max_postings` was reached: younger postings of long lists were left out, always the same ones."""

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
    result: SearchResult
    superseded: bool = False
    """A higher version was placed before this record."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The version of an image that was placed last."""

    image_id: ImageId
    version: int
    place: int
    code: bytes
    """Its score code; b"" when the version cannot be searched (skipped, removed) or was dropped since."""
    hidden: bool
    """A search from the next place cannot find it."""


@dataclass(frozen=True, slots=True)
class IndexBytes:
    """Bytes on disk by part; `total` is their sum."""

    postings: int = 0
    dictionary: int = 0
    """From terms to their posting lists."""
    sharing: int = 0
    """From distinct term sets to the entries that share them."""
    terms: int = 0
    """The terms themselves, by which an image that is stored is searched for again."""
    codes: int = 0
    ids: int = 0
    """Image ids and the table that finds them."""
    places: int = 0
    """Places and versions."""
    removed: int = 0
    """What is hidden, and from where."""
    log: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        parts = (self.postings, self.dictionary, self.sharing, self.terms, self.codes, self.ids, self.places)
        return sum(parts) + self.removed + self.log


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What the index holds at one moment, and how dense it is."""

    position: LogPosition
    released: int
    """Searches as of places up to it need no answer; -1: all do."""
    images: int
    """What a search from the next place can find."""
    entries: int
    """Placed versions, findable or not."""
    segments: int
    tail: int
    """Entries that are not in a sealed segment yet."""
    merging: bool
    bytes: IndexBytes
    term_sets: int
    """Distinct term sets of the sealed segments; images with equal terms share one."""
    postings: int
    """Of the sealed segments."""
    posting_lists: int
    """Of the sealed segments: distinct terms, segment by segment."""
    expected_postings: float
    """Postings that a search for one of the sealed segments' distinct term sets touches, on average: the density."""
    queries: int
    """Searches since the index was opened."""
    query_postings: int
    """Postings that these searches touched."""


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
    def search_more(self, queries: Sequence[MoreQuery]) -> list[SearchResult]:
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

    @abstractmethod
    def delete(self, image_ids: Sequence[ImageId]) -> list[bool]:
        """Hides the latest versions of images as `hide` does, all in one write.

        Returns:
            For each whether it was in sight before; False for one that was named earlier in the call.

        Raises:
            UnavailableError: It could not be written; nothing was hidden.
        """

    @abstractmethod
    def get(self, image_ids: Sequence[ImageId]) -> list[Stored | None]:
        """The versions of images that were placed last; None for an image never placed."""

    @abstractmethod
    def terms(self, image_ids: Sequence[ImageId]) -> list[NDArray[np.uint32] | None]:
        """The terms, (groups,), of the versions that were placed last; None for a version that cannot be searched."""

    @abstractmethod
    def search(self, queries: Sequence[TermQuery]) -> list[SearchResult]:
        """Searches for terms; nothing is inserted.

        Raises:
            BadInputError: A query has another number of terms than the index, terms of too many bits, or a k,
                `after`, `min_overlap` or `as_of` out of range.
        """

    @abstractmethod
    def rank(
        self, terms: NDArray[np.uint32], k: int, min_overlap: int | None = None, as_of: int | None = None
    ) -> Ranked:
        """The bare form of `search` for many queries with one k: places and overlaps, no ids and codes.

        Args:
            terms: (n, groups)
            k: How many candidates to return at most.
            min_overlap: The fewest shared terms of a candidate; None: that of the index.
            as_of: As in `TermQuery`.

        Raises:
            BadInputError: As in `search`.
        """

    @abstractmethod
    def release(self, offset: int) -> None:
        """Says that storage is past an offset: no search as of it or of an earlier place is asked for any more.

        Offsets at or below one released before change nothing.
        """

    @abstractmethod
    def stats(self) -> IndexStats:
        """What the index holds, and how dense it is."""

    @abstractmethod
    def snapshot(self, folder: Path) -> LogPosition:
        """Puts a consistent copy of the index into a new folder, beside ongoing writes; says up to where it goes.

        The folder must not exist, and lie on the same file system: what never changes is linked, not copied.

        Raises:
            BadInputError: The folder exists, or cannot hold the copy.
            UnavailableError: It could not be written; nothing is left of it.
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
