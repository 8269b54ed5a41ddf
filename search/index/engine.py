"""The term index: a log-structured set of sealed segments and a tail in memory, behind `TermIndex`.

A call plans what its new records do, writes the plan as one frame of the log, applies it to the tail, and searches. So
a crash or a full disk leaves either all of a call or nothing. Opening replays the log through the same code. Full tails
are sealed and segments are merged while calls go on (`search.index.housekeeping`).

There is one writer at a time. Searches take no lock. A search uses the state of the moment when it began, which stays
valid; what is added or hidden later only affects later places.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import RefusedError, UnavailableError
from core.log_epochs import renewed
from core.types import ImageId, LogPosition
from search.index.answers import Answers
from search.index.codec import AppliedBatch, Effect, Hidden, Renewed, decode_frame, encode_frame
from search.index.columns import Kind
from search.index.errors import IndexBrokenError, IndexDamagedError
from search.index.folder import IndexFolder
from search.index.housekeeping import Housekeeping
from search.index.interface import (
    Answer,
    IndexStats,
    Listing,
    MoreQuery,
    Ranked,
    Record,
    SearchResult,
    Stored,
    TermIndex,
    TermQuery,
)
from search.index.listing import SHARES, listed_at, listed_page
from search.index.placements import Placement, PlacementsOfCall
from search.index.planning import LatestVersion, check_log_id, check_records, plan_batch
from search.index.segment import Segment
from search.index.segment_store import SegmentStore
from search.index.settings import IndexSettings
from search.index.state import State

__all__ = ["SegmentedIndex"]

_KINDS = np.array([0, Kind.SEARCHABLE, Kind.SKIPPED, Kind.REMOVED, Kind.FORGOTTEN], np.uint8)
"""By effect."""


class SegmentedIndex(TermIndex):
    """A `TermIndex` in a folder of its own."""

    def __init__(self, folder: Path, settings: IndexSettings, background: bool = True) -> None:
        """Opens the folder, or makes it.

        Args:
            folder: A folder for this index alone.
            settings: Their identity must be that of the folder.
            background: Seal and merge in threads. Without them only `tidy` does.

        Raises:
            IndexLockedError: Another process has the folder open.
            MismatchError: The folder was made for other settings.
            IndexDamagedError: The files are damaged.
        """
        self._settings = settings
        self._writer = threading.RLock()
        self._closed = False
        self._broken = False
        self._answers = Answers(settings)
        self._folder = IndexFolder(folder, settings.identity)
        try:
            self._store = SegmentStore(folder, settings, self._writer)
            try:
                self._position = self._store.manifest.position
                self._images = self._store.images
                self._replay()
            except BaseException:  # also an interrupt must close the files and release the lock
                self._store.close()
                raise
        except BaseException:
            self._folder.close()
            raise
        self._housekeeping = Housekeeping(self._store, settings, background, self._folder.lock)

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
        """The size of all files."""
        return self._store.bytes().total

    @property
    def folder(self) -> Path:
        """The folder of the index."""
        return self._folder.path

    @property
    def segments(self) -> Sequence[Segment]:
        """The sealed segments, in order of age."""
        return self._store.state.segments

    def insert_and_search(self, log_id: str, records: Sequence[Record]) -> list[Answer]:
        """See `TermIndex`."""
        self._check_open()
        if records and records[-1].offset > self._position.offset:
            self._housekeeping.make_room()
        ids = list({record.image_id for record in records})
        with self._writer:
            self._check_open()
            new = records[check_records(log_id, records, self._position, self._settings.shape) :]
            # The new entries go to the tail of this state, so the state is still valid for these records.
            state = self._store.state
            placed = _placements(state, ids)
            if new:
                self._insert(log_id, new, placed)
        return self._answers.to_records(
            state, records, placed.last, new[0].offset if new else self._position.offset + 1
        )

    def search_more(self, queries: Sequence[MoreQuery]) -> list[SearchResult]:
        """See `TermIndex`."""
        self._check_open()
        askable = range(self._store.released + 1, self._position.offset + 1)
        return self._answers.more(self._store.state, queries, askable)

    def search(self, queries: Sequence[TermQuery]) -> list[SearchResult]:
        """See `TermIndex`."""
        self._check_open()
        return self._answers.free(self._store.state, queries, self._position.offset + 1)

    def rank(
        self,
        terms: NDArray[np.uint32],
        k: int,
        min_overlap: int | None = None,
        as_of: int | None = None,
        codes: NDArray[np.uint8] | None = None,
    ) -> Ranked:
        """See `TermIndex`."""
        self._check_open()
        place = self._position.offset + 1 if as_of is None else as_of
        return self._answers.bare(self._store.state, terms, k, min_overlap, place, codes)

    def get(self, image_ids: Sequence[ImageId]) -> list[Stored | None]:
        """See `TermIndex`."""
        self._check_open()
        return self._answers.stored(self._store.state, image_ids)

    def list_page(self, after: int, limit: int, share: int | None = None) -> Listing:
        """See `TermIndex`."""
        self._check_open()
        return listed_page(self._store.state, after, limit, SHARES if share is None else share)

    def list_at(self, places: Sequence[int]) -> list[Stored | None]:
        """See `TermIndex`."""
        self._check_open()
        return listed_at(self._store.state, places)

    def terms_and_codes(self, image_ids: Sequence[ImageId]) -> list[tuple[NDArray[np.uint32], bytes] | None]:
        """See `TermIndex`."""
        self._check_open()
        return self._answers.terms_and_codes(self._store.state, image_ids)

    def hide(self, place: int) -> None:
        """See `TermIndex`."""
        with self._writer:
            self._check_open()
            if not 0 <= place <= self._position.offset:
                raise RefusedError(
                    f"cannot hide place {place}: the last record applied has offset {self._position.offset}", place
                )
            at = self._store.state.place_of(place)
            if at is not None and self._in_sight(*at):
                self._hide([place])

    def delete(self, image_ids: Sequence[ImageId]) -> list[bool]:
        """See `TermIndex`."""
        with self._writer:
            self._check_open()
            hidden: dict[int, None] = {}
            deleted = []
            for last in self._store.state.newest(image_ids):
                found = last is not None and last.place not in hidden and self._in_sight(last.source, last.entry)
                deleted.append(found)
                if last is not None and found:
                    hidden[last.place] = None
            if hidden:
                self._hide(list(hidden))
            return deleted

    def renew(self, log_id: str, base: int) -> LogPosition:
        """See `TermIndex`."""
        check_log_id(log_id)
        with self._writer:
            self._check_open()
            position = renewed(self._position, log_id, base)
            if position != self._position:
                told = Renewed(log_id, base)
                self._write(encode_frame(told), lambda: self._apply_renewed(told))
            return self._position

    def release(self, offset: int) -> None:
        """See `TermIndex`."""
        self._check_open()
        self._store.release(offset)
        self._set_forgotten_aside()
        self._housekeeping.wake()

    @property
    def released(self) -> int:
        """See `TermIndex`."""
        return self._store.released

    def stats(self) -> IndexStats:
        """See `TermIndex`."""
        self._check_open()
        stages = self._answers.stages
        return self._store.stats(self._position, self._images, stages.queries, stages.postings)

    def snapshot(self, folder: Path) -> LogPosition:
        """See `TermIndex`."""
        self._check_open()
        return self._store.snapshot(folder, lambda: self._position)

    def tidy(self) -> None:
        """Seals all full tails and does all merges that are due, now.

        Raises:
            UnavailableError: It could not be written; nothing changed.
        """
        self._check_open()
        self._set_forgotten_aside()
        while self._housekeeping.step():
            pass

    def close(self) -> None:
        """See `TermIndex`."""
        self._housekeeping.stop()
        with self._writer:
            if not self._closed:
                self._closed = True
                self._store.close()
                self._folder.close()

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("the index is closed")
        if self._broken:
            raise IndexBrokenError("the index failed after a write and must be opened again")

    def _set_forgotten_aside(self) -> None:
        """Begins another tail if this one holds an image that is to be erased: a log goes once its tail is sealed."""
        if self._store.tail_forgets:
            with self._writer:
                if self._store.tail_forgets:
                    self._store.rotate(self._position)

    def _insert(self, log_id: str, new: Sequence[Record], placed: PlacementsOfCall) -> None:
        """Applies new records. `placed` gets their placements."""
        batch = plan_batch(log_id, new, partial(self._latest, placed), self._settings.shape)
        # This can run out of memory, so it comes before the write.
        self._store.state.tail.reserve(len(batch.effects))
        self._write(encode_frame(batch), lambda: self._apply_batch(batch, placed))
        if len(self._store.state.tail) >= self._settings.seal_entries:
            self._store.rotate(self._position)
            self._housekeeping.wake()

    def _latest(self, placed: PlacementsOfCall, image_id: ImageId) -> LatestVersion | None:
        """The version of an image that was placed last."""
        last = placed.newest(image_id)
        if last is None:
            return None
        return LatestVersion(last.version, self._in_sight(last.source, last.entry), last.kind.is_delete)

    def _in_sight(self, number: int, entry: int) -> bool:
        """Whether a search from the next place can find an entry of a source."""
        source = self._store.state.sources[number]
        seen_by = source.last_seen_by(entry)
        return source.is_searchable(entry) and (seen_by is None or seen_by > self._position.offset)

    def _hide(self, places: Sequence[int]) -> None:
        hidden = Hidden(tuple(places), self._position.offset)
        self._write(encode_frame(hidden), lambda: self._apply_hidden(hidden))

    def _write(self, frame: bytes, apply: Callable[[], None]) -> None:
        self._store.append(frame)
        try:
            apply()
        except BaseException:  # whatever it was, memory now differs from the log
            self._broken = True
            raise

    def _apply_renewed(self, told: Renewed) -> None:
        self._position = renewed(self._position, told.log_id, told.base)

    def _apply_hidden(self, hidden: Hidden) -> None:
        self._images -= sum(self._hide_entry(place, hidden.hidden_from) for place in hidden.places)

    def _apply_batch(self, batch: AppliedBatch, placed: PlacementsOfCall) -> None:
        """Applies a batch. `placed` gets its placements."""
        state = self._store.state
        rows = np.flatnonzero(batch.effects != Effect.PASSED)
        ids = [batch.image_ids[row] for row in rows.tolist()]
        places, versions, kinds = batch.first_offset + rows, batch.versions[rows], _KINDS[batch.effects[rows]]
        source, first = len(state.sources) - 1, len(state.tail)
        state.tail.add(places, versions, kinds, ids, batch.terms, batch.codes)
        columns = zip(ids, places.tolist(), versions.tolist(), kinds.tolist(), strict=True)
        for entry, (image_id, place, version, kind) in enumerate(columns, first):
            older = placed.newest(image_id)
            if older is not None:
                self._images -= state.sources[older.source].hide(older.entry, place)
            placed.add(image_id, Placement(place, version, Kind(kind), source, entry))
        self._images += kinds.tolist().count(Kind.SEARCHABLE)
        last = batch.first_offset + len(batch.effects) - 1
        self._position = LogPosition(batch.log_id, last, int(batch.checksums[-1]), self._position.base)

    def _hide_entry(self, place: int, hidden_from: int) -> bool:
        state = self._store.state
        at = state.place_of(place)
        if at is None:
            raise IndexDamagedError(f"place {place} is hidden but nothing was ever placed there")
        return state.sources[at[0]].hide(at[1], hidden_from)

    def _replay(self) -> None:
        for where, frame in self._store.replay():
            content = decode_frame(frame)
            if isinstance(content, Hidden):
                missing = [place for place in content.places if self._store.state.place_of(place) is None]
                if missing:
                    raise IndexDamagedError(f"{where}: place {missing[0]} is hidden but was never inserted")
                self._apply_hidden(content)
                continue
            expected = self._position.offset + 1
            if isinstance(content, Renewed):
                if content.base != expected:
                    raise IndexDamagedError(
                        f"{where}: a log begins at position {content.base}, expected {expected}: build the index again"
                    )
                self._apply_renewed(content)
                continue
            if content.first_offset != expected or content.log_id != (self._position.log_id or content.log_id):
                raise IndexDamagedError(
                    f"{where}: the records start at offset {content.first_offset} of log {content.log_id!r}, "
                    f"expected offset {expected} of log {self._position.log_id!r}: build the index again"
                )
            sizes = (content.terms.shape[1], content.codes.shape[1])
            if sizes != (self._settings.groups, self._settings.code_bytes):
                raise IndexDamagedError(f"{where}: groups and code bytes {sizes} are not those of the header")
            ids = list(set(content.image_ids))
            self._apply_batch(content, _placements(self._store.state, ids))
        if len(self._store.state.tail) >= self._settings.seal_entries:
            self._store.rotate(self._position)


def _placements(state: State, image_ids: Sequence[ImageId]) -> PlacementsOfCall:
    """The placements of some images in a state that stays as it is but for what the call adds."""
    return PlacementsOfCall(dict(zip(image_ids, state.newest(image_ids), strict=True)), state.last_of)
