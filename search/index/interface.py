"""The interface of a term index: the records it takes, the answers it gives, and the laws it keeps.

The laws:

- Records have consecutive positions in the order (fields named `offset` hold them), and come from one log until
  `renew`. A position beyond the next one, or another log, is refused with `LogGapError`. A position that was applied
  before is searched again and never applied again.
- The place of an image version is the offset of the first record of that version. A later record of the same version
  gets the same answer as the first one, with the first one's place.
- A delete (`Remove`) places a version that cannot be found: the one placed last, or a higher one. Later records of that
  version are answered as deleted, those of lower versions as superseded. A higher version is a new life of the image.
- A delete may forget the image (`Remove.forget`): once it is released, the entries up to it get a pseudonym in place of
  the id. The answers stay the same.
- A `Replay` searches for the version placed last before it, as of its own offset, if a search as of that offset can
  find it. Else the replay may carry the image: then that version is placed anew, and the replay's offset becomes its
  place. What was deleted is not placed again.
- A record whose version is below one placed before it is superseded: it gets no candidates. A higher version hides
  the image's earlier entry from all later places; searches as of earlier places still see it.
- A search as of a place, or of the offset of a replay, sees exactly the entries before it which are not hidden from it,
  without the image itself. So its answer never changes.
- A search is exact, in two stages (`search.ranking`). The first `depth` images by overlap (ties: the oldest first) are
  its candidates, ordered by the distance of their codes (ties: the highest overlap first, then the oldest). Without a
  code, or if the settings say so, all images are candidates, ordered by overlap.
- Candidates come in pages of one list. A page that reaches its end is marked (`SearchResult.exhausted`).
- All records of one call are inserted before the first is searched for.
- `max_postings` may limit the postings of one query. A search that reaches it is marked
  (`SearchResult.truncated`), and is exact over the oldest postings of each of its lists.
- Once storage has passed an offset (`release`), no search as of it or an earlier place comes again. What only such
  searches could see may be dropped. Image versions and their places are kept for ever.
- Acknowledged records survive a crash of the process.

One thread may write at a time (implementations ensure it); any number may search meanwhile.
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
    "Listing",
    "MoreQuery",
    "Ranked",
    "Record",
    "Remove",
    "Replay",
    "SearchResult",
    "Skip",
    "Stored",
    "TermIndex",
    "TermQuery",
]

NO_PLACE = -1
"""The place of a record that placed no image."""

NO_IMAGE = ImageId("")
"""No image has this id."""


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """A record with an image version: its terms (one value per group) and its packed score code."""

    offset: int
    checksum: int
    """CRC-32C of the record's bytes."""
    image_id: ImageId
    version: int
    terms: NDArray[np.uint32]
    code: bytes
    searched: bool = True
    """Whether the answer has candidates. If not, the image is placed as any other and later searches find it."""


@dataclass(frozen=True, slots=True)
class Skip:
    """A record whose image cannot be indexed.

    It still places its version, so an earlier version is hidden, and a later record of the same version is skipped too.
    `image_id` is "" when the record could not be read at all; then only its offset counts.
    """

    offset: int
    checksum: int
    image_id: ImageId
    version: int


@dataclass(frozen=True, slots=True)
class Remove:
    """A record that deletes an image: it places a version that cannot be found, which hides the one before it.

    Its answer has no candidates. It deletes nothing if a higher version was placed before, or if its version is deleted
    already.
    """

    offset: int
    checksum: int
    image_id: ImageId
    version: int | None
    """The highest version to delete; None: the one placed last before this record."""
    forget: bool = False
    """No file may keep the image's id once what its records placed is released. It has an effect on a deleted version
    too."""


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """A record that searches for an image again, as of its own offset.

    The version is the one placed last before the record. Nothing is placed if a search as of the record finds it.
    """

    offset: int
    checksum: int
    image_id: ImageId
    image: Insert | None = None
    """At the same offset: placed there if the version cannot be found and is this one, or if there is none. A deleted
    version is never placed again."""


Record = Insert | Skip | Remove | Replay
"""One record of the log."""


@dataclass(frozen=True, slots=True)
class MoreQuery:
    """Asks for the page of candidates of the image at a place that follows the first `after` ones."""

    place: int
    after: int
    as_of: int | None = None
    """The offset of a replay of the image, as of which to search; None: the place."""


@dataclass(frozen=True, slots=True, eq=False)
class TermQuery:
    """A free search: it searches for terms and inserts nothing."""

    terms: NDArray[np.uint32]
    """(groups,)"""
    k: int
    """The most candidates to return."""
    after: int = 0
    """How many candidates to skip."""
    min_overlap: int | None = None
    """The fewest shared terms of a candidate; None: the setting of the index."""
    as_of: int | None = None
    """The place as of which to search; None: after the last record applied."""
    without: ImageId = NO_IMAGE
    """An image that must not be found; `NO_IMAGE`: none."""
    code: bytes = b""
    """The score code that candidates are compared with; b"": they are ordered by overlap."""


@dataclass(frozen=True, slots=True, eq=False)
class Ranked:
    """The results of many searches without ids and codes, best candidate first; row i belongs to query i."""

    places: NDArray[np.int64]
    """(n, k); row i is filled up to `sizes[i]`."""
    overlaps: NDArray[np.uint16]
    """(n, k)"""
    sizes: NDArray[np.int64]
    """(n,)"""
    exhausted: NDArray[np.bool_]
    """(n,) no candidates follow these."""
    truncated: NDArray[np.bool_]
    """(n,) `max_postings` was reached."""
    postings: NDArray[np.int64]
    """(n,) how many postings each search touched."""
    distances: NDArray[np.uint16] | None = None
    """(n, k) how many bits of their codes differ from the code asked with; None: they are ordered by overlap."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """A page of the candidates of one search, in order. The columns have equal length."""

    image_ids: tuple[ImageId, ...]
    overlaps: NDArray[np.uint16]
    places: NDArray[np.int64]
    codes: NDArray[np.uint8]
    """(n, code bytes)"""
    exhausted: bool
    """No candidates follow these."""
    postings: int = 0
    """How many postings the search touched: its work."""
    truncated: bool = False
    """`max_postings` was reached, so younger postings of long lists were left out, always the same ones."""
    distances: NDArray[np.uint16] | None = None
    """(n,) how many bits of their codes differ from the code asked with; None: they are ordered by overlap."""

    def candidates(self) -> tuple[Candidate, ...]:
        """The candidates as records."""
        columns = zip(self.image_ids, self.places.tolist(), self.overlaps.tolist(), self.codes, strict=True)
        return tuple(Candidate(image_id, place, overlap, code.tobytes()) for image_id, place, overlap, code in columns)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """The answer to one record."""

    offset: int
    place: int
    """The place of this image version; below `offset` when it was placed before; that of the delete when it is deleted;
    `NO_PLACE` when it was skipped, and of a replay that found nothing."""
    code: bytes
    """The score code of the version; b"" when skipped or deleted."""
    result: SearchResult
    terms: NDArray[np.uint32] | None = None
    """(groups,) what was searched for; None without a search."""
    superseded: bool = False
    """A higher version was placed before this record."""
    version: int = 0
    """Of a replay and a delete: the version placed last before it, or by the replay; 0 if there is none."""
    deleted: bool = False
    """The version was deleted before. Of a delete: it took effect."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The latest version of an image."""

    image_id: ImageId
    version: int
    place: int
    code: bytes
    """Its score code; b"" when the version cannot be searched (skipped, removed) or was dropped since."""
    hidden: bool
    """A search from the next place cannot find it."""
    deleted: bool = False
    """It was deleted, by the record at `place`."""
    erased: bool = False
    """It was forgotten, and its id is in no segment and no log any more."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Some of what the index holds now: entries that a search from the next place can find, and deletes that stand."""

    entries: tuple[Stored, ...]
    """By place, without codes. Erased images have their pseudonyms."""
    through: int
    """There are no others up to this place."""
    complete: bool
    """Nor after it."""


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
    """Hidden entries."""
    log: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        parts = (self.postings, self.dictionary, self.sharing, self.terms, self.codes, self.ids, self.places)
        return sum(parts) + self.removed + self.log


@dataclass(frozen=True, slots=True)
class IndexStats:
    """The content and the density of the index at one moment."""

    position: LogPosition
    released: int
    """No search as of this or an earlier place comes again; -1: any may come."""
    images: int
    """Images that a search from the next place can find."""
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
    forgetting: int = 0
    """Images that were forgotten and whose ids are in the files yet."""


class TermIndex(ABC):
    """An index of terms that follows one log."""

    @abstractmethod
    def insert_and_search(self, log_id: str, records: Sequence[Record]) -> list[Answer]:
        """Applies the records that are new and searches for all of them.

        Args:
            log_id: The log of the records; the first records applied fix it, until `renew`.
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
        """The next candidates of images that were inserted before, as of their places or of their replays.

        Raises:
            RefusedError: There is no image at a place, or what it asks as of was not applied yet or is released;
                `offset` names the record that asks: the replay, or the image at the place.
        """

    @abstractmethod
    def hide(self, place: int) -> None:
        """Hides the image at a place from all places after the last record applied.

        Does nothing if it is hidden already, or nothing was inserted there.

        Raises:
            RefusedError: The place was not applied yet.
            UnavailableError: It could not be written; nothing was hidden.
        """

    @abstractmethod
    def delete(self, image_ids: Sequence[ImageId]) -> list[bool]:
        """Hides the latest versions of images as `hide` does, all in one write.

        The order does not know of it, so the same order gives other clusters without it.

        Returns:
            For each whether it could be found before; False for an id that was named earlier in the call.

        Raises:
            UnavailableError: It could not be written; nothing was hidden.
        """

    @abstractmethod
    def get(self, image_ids: Sequence[ImageId]) -> list[Stored | None]:
        """The latest versions of images; None for an image that was never placed."""

    @abstractmethod
    def list_page(self, after: int, limit: int, share: int | None = None) -> Listing:
        """What the index holds now at places above `after`.

        Args:
            after: A place; -1: from the first one on.
            limit: The most entries, from 1. A page may have fewer, and more may follow.
            share: Of 2^32: about so many of the places, always the same ones; None: all.
        """

    @abstractmethod
    def list_at(self, places: Sequence[int]) -> list[Stored | None]:
        """What `list_page` gives of some places; None where that is nothing."""

    @abstractmethod
    def terms_and_codes(self, image_ids: Sequence[ImageId]) -> list[tuple[NDArray[np.uint32], bytes] | None]:
        """What the latest versions of images are searched by: terms (groups,) and code; None for one that cannot be."""

    @abstractmethod
    def search(self, queries: Sequence[TermQuery]) -> list[SearchResult]:
        """Searches for terms; nothing is inserted.

        Raises:
            BadInputError: A query has another number of terms than the index, terms of too many bits, a code of another
                size, or a k, `after`, `min_overlap` or `as_of` out of range.
        """

    @abstractmethod
    def rank(
        self,
        terms: NDArray[np.uint32],
        k: int,
        min_overlap: int | None = None,
        as_of: int | None = None,
        codes: NDArray[np.uint8] | None = None,
    ) -> Ranked:
        """A `search` for many queries with one k that gives neither ids nor codes.

        Args:
            terms: (n, groups)
            k: The most candidates to return for each.
            min_overlap: The fewest shared terms of a candidate; None: the setting of the index.
            as_of: As in `TermQuery`.
            codes: (n, code bytes) that candidates are compared with; None: they are ordered by overlap.

        Raises:
            BadInputError: As in `search`.
        """

    @abstractmethod
    def renew(self, log_id: str, base: int) -> LogPosition:
        """Goes on with another log, whose offset 0 is the position `base`. A repeated call does nothing.

        Args:
            log_id: The new log (Kafka's topic id).
            base: One after the last position applied.

        Returns:
            The position, which is that of the last record applied, in the new log.

        Raises:
            MismatchError: The base is another one; the message has both values.
            BadInputError: The log id is empty or too long.
            UnavailableError: It could not be written; nothing changed.
        """

    @abstractmethod
    def release(self, offset: int) -> None:
        """Says that storage has passed an offset, so no search as of it or an earlier place comes again.

        An offset at or below one released before changes nothing.
        """

    @property
    @abstractmethod
    def released(self) -> int:
        """The last offset that was released; an index that was opened again may have an earlier one."""

    @abstractmethod
    def stats(self) -> IndexStats:
        """The content and the density of the index."""

    @abstractmethod
    def snapshot(self, folder: Path) -> LogPosition:
        """Puts a consistent copy of the index into a new folder while writes go on; returns the copy's position.

        The folder must not exist. Immutable files are linked, or copied if it is on another file system.

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
        """Waits for the writer and closes the files; later calls raise `UnavailableError`."""
