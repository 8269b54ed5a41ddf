"""The term index in its simple form: chained postings in memory, an append-only log on disk.

A call plans what its new records do, writes that as one frame, applies it to memory, and searches. So a crash or a
full disk leaves either all of a call or nothing, and opening replays the log through the same code.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.errors import BadInputError, RefusedError, UnavailableError
from search.index.codec import AppliedBatch, Effect, Hidden, decode_frame, encode_frame
from search.index.errors import IndexBrokenError, IndexDamagedError
from search.index.folder import IndexFolder
from search.index.frame_log import FrameLog
from search.index.interface import (
    NO_PLACE,
    Answer,
    Found,
    IndexBytes,
    IndexStats,
    Insert,
    MoreQuery,
    Ranked,
    Record,
    Skip,
    Stored,
    TermIndex,
    TermQuery,
)
from search.index.placements import Placements
from search.index.planning import check_records, plan_batch
from search.index.postings import Hits, Postings
from search.index.settings import IndexSettings
from search.types import ImageId, LogPosition

__all__ = ["ChainedIndex"]

log = logging.getLogger(__name__)

_MAX_CHAINS = 2**25
"""Posting lists at most (4 bytes each); where there are more terms than that, terms share lists."""


class ChainedIndex(TermIndex):
    """A `TermIndex` in a folder of its own."""

    def __init__(self, folder: Path, settings: IndexSettings) -> None:
        """Opens the folder, or makes it, and brings the index into memory.

        Raises:
            IndexLockedError: Another process has the folder open.
            MismatchError: The folder was made for other settings.
            IndexDamagedError: The files are damaged.
        """
        self._settings = settings
        self._postings = Postings(settings.shape, _MAX_CHAINS)
        self._placements = Placements()
        self._position = LogPosition()
        self._images = 0
        self._released = -1
        self._writer = threading.Lock()
        self._closed = False
        self._broken = False
        self._folder = IndexFolder(folder, settings.identity)
        try:
            self._log = FrameLog(self._folder.log_path, settings.sync)
            try:
                self._replay()
            except BaseException:
                self._log.close()
                raise
        except BaseException:
            self._folder.close()
            raise

    @property
    def position(self) -> LogPosition:
        """The last record applied."""
        return self._position

    @property
    def images(self) -> int:
        """How many images a search from the next place can find."""
        return self._images

    @property
    def disk_bytes(self) -> int:
        """The size of the log."""
        return self._log.size

    def insert_and_search(self, log_id: str, records: Sequence[Record]) -> list[Answer]:
        """See `TermIndex`."""
        with self._writer:
            self._check_open()
            shape = self._settings.shape
            new = records[check_records(log_id, records, self._position, shape) :]
            if new:
                self._write(plan_batch(log_id, new, self._placements.latest_version, shape))
        return self._answers(records)

    def search_more(self, queries: Sequence[MoreQuery]) -> list[Found]:
        """See `TermIndex`."""
        self._check_open()
        entries = []
        for query in queries:
            entry = self._postings.entry_at(query.place)
            if entry is None or self._postings.hidden_from(entry) < 0:
                raise RefusedError(f"no image was inserted at place {query.place}", query.place)
            if query.after < 0:
                raise RefusedError(f"cannot pass over {query.after} candidates", query.place)
            entries.append(entry)
        return self._search(entries, [query.after for query in queries])

    def hide(self, place: int) -> None:
        """See `TermIndex`."""
        with self._writer:
            self._check_open()
            if not 0 <= place <= self._position.offset:
                raise RefusedError(
                    f"cannot hide place {place}: the last record applied has offset {self._position.offset}", place
                )
            entry = self._postings.entry_at(place)
            if entry is None or self._postings.hidden_from(entry) <= self._position.offset:
                return
            self._write(Hidden(place, self._position.offset))

    def delete(self, image_id: ImageId) -> bool:
        """See `TermIndex`."""
        latest = self._placements.latest(image_id)
        if latest is None:
            return False
        before = self._images
        self.hide(self._placements.place(latest[0]))
        return self._images < before

    def get(self, image_ids: Sequence[ImageId]) -> list[Stored | None]:
        """See `TermIndex`."""
        return [self._stored(image_id, self._placements.latest(image_id)) for image_id in image_ids]

    def _stored(self, image_id: ImageId, latest: tuple[int, int] | None) -> Stored | None:
        if latest is None:
            return None
        entry, version = latest
        hidden_from = self._postings.hidden_from(entry)
        code = b"" if hidden_from < 0 else self._postings.code(entry)
        return Stored(image_id, version, self._placements.place(entry), code, hidden_from <= self._position.offset)

    def terms(self, image_ids: Sequence[ImageId]) -> list[NDArray[np.uint32] | None]:
        """See `TermIndex`."""
        latest = [self._placements.latest(image_id) for image_id in image_ids]
        return [
            None if each is None or self._postings.hidden_from(each[0]) < 0 else self._postings.terms(each[0])
            for each in latest
        ]

    def search(self, queries: Sequence[TermQuery]) -> list[Found]:
        """See `TermIndex`."""
        self._check_open()
        return [self._found(self._compare(query)) for query in queries]

    def _compare(self, query: TermQuery) -> Hits:
        as_of = self._position.offset + 1 if query.as_of is None else query.as_of
        entries, overlaps = self._postings.overlaps(query.terms, as_of, query.min_overlap or self._settings.min_overlap)
        others = [
            row
            for row, number in enumerate(self._postings.hits(entries, overlaps, True).images.tolist())
            if self._placements.image_id(number) != query.without
        ]
        wanted = others[query.after : query.after + query.k]
        return self._postings.hits(entries[wanted], overlaps[wanted], len(others) <= query.after + query.k)

    def rank(
        self, terms: NDArray[np.uint32], k: int, min_overlap: int | None = None, as_of: int | None = None
    ) -> Ranked:
        """See `TermIndex`."""
        hits = [self._compare(TermQuery(row, k, min_overlap=min_overlap, as_of=as_of)) for row in terms]
        ranked = Ranked(
            places=np.zeros((len(hits), k), np.int64),
            overlaps=np.zeros((len(hits), k), np.uint16),
            sizes=np.array([len(one.places) for one in hits], np.int64),
            exhausted=np.array([one.exhausted for one in hits], np.bool_),
            cut=np.zeros(len(hits), np.bool_),
            postings=np.array([one.postings for one in hits], np.int64),
        )
        for row, one in enumerate(hits):
            ranked.places[row, : len(one.places)] = one.places
            ranked.overlaps[row, : len(one.places)] = one.overlaps
        return ranked

    def release(self, offset: int) -> None:
        """See `TermIndex`."""
        self._released = max(self._released, offset)

    def stats(self) -> IndexStats:
        """See `TermIndex`."""
        return IndexStats(
            position=self._position,
            released=self._released,
            images=self._images,
            entries=len(self._postings),
            segments=0,
            tail=len(self._postings),
            merging=False,
            bytes=IndexBytes(log=self._log.size),
            term_sets=0,
            postings=0,
            posting_lists=0,
            expected_postings=0.0,
            queries=0,
            query_postings=0,
        )

    def snapshot(self, folder: Path) -> LogPosition:
        """See `TermIndex`."""
        if folder.exists():
            raise BadInputError(f"{folder} exists: a snapshot makes its own folder")
        with self._writer:
            self._check_open()
            shutil.copytree(self._folder.path, folder, ignore=shutil.ignore_patterns("lock"))
            return self._position

    def close(self) -> None:
        """See `TermIndex`."""
        with self._writer:
            if not self._closed:
                self._closed = True
                self._log.close()
                self._folder.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the index is closed")
        if self._broken:
            raise IndexBrokenError("the index failed after a write and must be opened anew")

    def _write(self, content: AppliedBatch | Hidden) -> None:
        if isinstance(content, AppliedBatch):
            self._postings.reserve(len(content.effects))  # what can fail for want of memory comes before the write
        self._log.append(encode_frame(content))
        try:
            self._apply(content)
        except BaseException:
            self._broken = True
            raise

    def _apply(self, content: AppliedBatch | Hidden) -> None:
        if isinstance(content, Hidden):
            self._apply_hidden(content)
        else:
            self._apply_batch(content)

    def _replay(self) -> None:
        for frame in self._log.replay():
            where = f"{self._log.path} before byte {self._log.size}"
            content = decode_frame(frame)
            if isinstance(content, Hidden):
                if self._postings.entry_at(content.place) is None:
                    raise IndexDamagedError(f"{where}: place {content.place} is hidden but was never inserted")
                self._apply(content)
                continue
            expected = self._position.offset + 1
            if content.first_offset != expected or content.log_id != (self._position.log_id or content.log_id):
                raise IndexDamagedError(
                    f"{where}: records from offset {content.first_offset} of log {content.log_id!r} follow, "
                    f"offset {expected} of log {self._position.log_id!r} was expected: build the index anew"
                )
            sizes = (content.terms.shape[1], content.codes.shape[1])
            if sizes != (self._settings.groups, self._settings.code_bytes):
                raise IndexDamagedError(f"{where}: groups and code bytes {sizes} are not those of the header")
            self._apply(content)

    def _apply_batch(self, batch: AppliedBatch) -> None:
        placed = np.flatnonzero(batch.effects != Effect.PASSED)
        versions = batch.versions.tolist()
        numbers, replaced = [], []
        for row in placed.tolist():
            removed = bool(batch.effects[row] == Effect.REMOVED)
            number, older = self._placements.add(batch.image_ids[row], versions[row], batch.first_offset + row, removed)
            numbers.append(number)
            if older >= 0:
                replaced.append((older, batch.first_offset + row))
        searchable = batch.effects[placed] == Effect.INSERTED
        self._postings.add(
            np.array(numbers, np.int32), batch.first_offset + placed, searchable, batch.terms, batch.codes
        )
        hidden = sum(self._postings.hide(older, place) for older, place in replaced)
        self._images += int(searchable.sum()) - hidden
        last = batch.first_offset + len(batch.effects) - 1
        self._position = LogPosition(batch.log_id, last, int(batch.checksums[-1]))

    def _apply_hidden(self, content: Hidden) -> None:
        entry = self._postings.entry_at(content.place)
        if entry is not None and self._postings.hide(entry, content.hidden_from):
            self._images -= 1

    def _answers(self, records: Sequence[Record]) -> list[Answer]:
        drafts = [self._draft(record) for record in records]
        entries = [entry for _, entry in drafts if entry is not None]
        found = iter(self._search(entries, [0] * len(entries)))
        return [
            answer
            if entry is None
            else Answer(answer.offset, answer.place, answer.code, next(found), answer.superseded)
            for answer, entry in drafts
        ]

    def _draft(self, record: Record) -> tuple[Answer, int | None]:
        """The answer without its candidates, and the entry to search for; None when there is nothing to find."""
        skipped = Answer(record.offset, NO_PLACE, b"", self._nothing())
        if isinstance(record, Skip):
            return skipped, None
        placed = self._placements.find(record.image_id, record.version, record.offset)
        entry = placed.entry
        code = record.code if isinstance(record, Insert) else b""
        if entry is None:
            if placed.superseded:
                return Answer(record.offset, record.offset, code, self._nothing(), superseded=True), None
            return skipped, None
        searchable = self._postings.hidden_from(entry) >= 0
        if not searchable and not placed.superseded and not self._placements.removed(entry):
            return skipped, None
        code = self._postings.code(entry) if searchable and isinstance(record, Insert) else b""
        answer = Answer(record.offset, self._placements.place(entry), code, self._nothing(), placed.superseded)
        return answer, entry if searchable and isinstance(record, Insert) and not placed.superseded else None

    def _search(self, entries: Sequence[int], afters: Sequence[int]) -> list[Found]:
        hits = self._postings.search(entries, afters, self._settings.candidates, self._settings.min_overlap)
        return [self._found(one) for one in hits]

    def _found(self, hits: Hits) -> Found:
        image_id = self._placements.image_id
        return Found(
            image_ids=tuple(image_id(number) for number in hits.images.tolist()),
            overlaps=hits.overlaps,
            places=hits.places,
            codes=hits.codes,
            exhausted=hits.exhausted,
            postings=hits.postings,
        )

    def _nothing(self) -> Found:
        return Found(
            image_ids=(),
            overlaps=np.empty(0, np.uint16),
            places=np.empty(0, np.int64),
            codes=np.empty((0, self._settings.code_bytes), np.uint8),
            exhausted=True,
        )
