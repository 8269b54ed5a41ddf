"""The store on disk: RocksDB, with one synced atomic write for each batch of decisions.

An acknowledged write survives a kill -9 at any instruction, and a power cut. Another write is there whole or not at
all. After a write that the disk refused, reading continues. The next write first checks that there is space again, and
reopens the database, so that the disk and not the memory says where the store is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from core.errors import UnavailableError
from core.overrides import Override
from core.types import Cause, ImageId, Lookup, Tombstone
from storage import codec, state_codec
from storage.base import system_ms
from storage.errors import CorruptedError, LockedError, StorageError, as_write_error
from storage.moving import Erased
from storage.overrides.log import OverrideLog
from storage.overrides.moves import MAX_MOVED
from storage.records import (
    ClusterRecord,
    Heads,
    ImageRecord,
    PublishedMark,
    StoreEpoch,
    StoreState,
    Touched,
)
from storage.rocks.bulk_forgets import history_rows, of_image
from storage.rocks.database import Database, KeyRange, Write
from storage.rocks.loading_store import LoadingStore
from storage.rocks.marker import FIRST_DATABASE, check_marker, read_marker, write_marker
from storage.rocks.options import META, RocksOptions
from storage.rocks.scrubbing import key_ranges, names_anything, plan_ranges
from storage.rocks.translate import translated
from storage.rocks.views import (
    DELTA,
    DROPPED,
    EPOCH,
    ERASING,
    FORGET_KEY,
    MARK,
    PUBLISHED,
    STATE,
    UNSCORED,
    Lease,
    LiveReader,
    PointReads,
    SnapshotView,
)
from storage.staging import Changes, Reader
from storage.sweeping import Sweep

__all__ = ["RocksStore"]

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 4
"""How often records are read without a snapshot, while somebody writes."""

INDEXED_AT_ONCE = 10_000
"""History entries of an older format that are made known by image in one write."""

SCRUB_WAIT_S = 5.0
"""How long one attempt to erase old records waits for those who read them."""

SCRUB_POLL_S = 0.05

SCRUB_PATIENCE_S = 7_200.0
"""After so long, those who read old records that are to be erased lose them, and may read again."""

PROBE_BYTES = 16 * 1024 * 1024
"""The space that a database needs for its log and its manifest before it is reopened after a refused write."""


class RocksStore(LoadingStore):
    """A store in its own folder, which one process at a time can open."""

    def __init__(
        self,
        folder: Path,
        identity: str = "",
        options: RocksOptions | None = None,
        now_ms: Callable[[], int] = system_ms,
        moves_at_once: int = MAX_MOVED,
    ) -> None:
        """Opens the store in `folder`, or creates a new one.

        Args:
            folder: Created if it is missing.
            identity: What the store serves. A new store keeps it, and an existing store must have the same.
            options: The settings of RocksDB.
            now_ms: The clock, in milliseconds since the epoch.
            moves_at_once: The images that an override or a forget moves in one write; more are a bulk move.

        Raises:
            LockedError: Another process has it open.
            IncompatibleError: It has another format or identity.
            CorruptedError: It is damaged.
            WriteError: The folder cannot be written.
        """
        super().__init__(now_ms, moves_at_once)
        self._folder = folder
        self._identity = identity
        self._options = options or RocksOptions()
        self._gate = threading.Condition(threading.Lock())
        self._readers = 0
        """How many reads without a lease are under way. They are short, and the database stays open for them."""
        self._leases: set[Lease] = set()
        self._broken = False
        self._closed = False
        self._overrides: OverrideLog | None = None
        self._scrub_waits: float | None = None
        """Since when old records cannot be erased because they are read."""
        with as_write_error(folder):
            folder.mkdir(parents=True, exist_ok=True)
            found = check_marker(folder, identity)
        self._database_folder = folder / (found.database if found else FIRST_DATABASE)
        self._database: Database | None = self._open(create=found is None)
        try:
            if found is None:
                self._finish(identity)
            elif read_marker(folder) != found:  # only now nobody else can change it
                raise LockedError(f"the store in {folder} was converted while it was opened: open it again")
            elif found.format != codec.FORMAT_VERSION:
                self._upgrade(identity, found.format)
            with self.snapshot() as view:
                self._second = view.last_second()
            self._read_overrides()
            self._find_bulk()
            self._apply_waiting()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def snapshot(self) -> Iterator[SnapshotView]:
        """See `ClusterStore.snapshot`."""
        with self._gate:  # so that nothing closes the database while the moment is taken
            database = self._usable()
            lease = Lease(database.moment())
            self._leases.add(lease)
            has_bulk = database.has_bulk
        try:
            yield SnapshotView(self._folder, lease, has_bulk)
        finally:
            with self._gate:
                self._leases.discard(lease)
            lease.revoke()

    def look_up(self, ids: Iterable[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """See `ClusterStore.look_up`."""
        asked = tuple(ids)
        return self._at_one_moment(
            lambda reads: self._with_rules(reads.look_up(asked, verdicts_of), asked, reads.heads)
        )

    def heads(self, ids: Iterable[ImageId]) -> Heads:
        """See `ClusterStore.heads`."""
        asked = tuple(ids)
        return self._at_one_moment(lambda reads: reads.heads(asked))

    def state(self) -> StoreState:
        """See `ClusterStore.state`."""
        return self._at_one_moment(PointReads.state)

    def image(self, image_id: ImageId) -> ImageRecord | None:
        """See `ClusterStore.image`."""
        return self._at_one_moment(lambda reads: reads.image(image_id))

    def image_at_once(self, image_id: ImageId) -> ImageRecord | None:
        """See `ClusterStore.image_at_once`.

        The library holds the interpreter's lock during a get, so reads on many threads would take no less time. But who
        takes a moment holds the gate as long as a synced write lasts, so nothing here waits for it.
        """
        if not self._gate.acquire(blocking=False):
            return None
        try:
            database = self._usable()
            with translated(self._folder):
                before = database.sequence()
                found = LiveReader(database).image(image_id)
                return found if database.sequence() == before else None
        finally:
            self._gate.release()

    def cluster(self, head: ImageId) -> ClusterRecord | None:
        """See `ClusterStore.cluster`."""
        return self._at_one_moment(lambda reads: reads.cluster(head))

    def tombstone(self, image_id: ImageId) -> Tombstone | None:
        """See `ClusterStore.tombstone`."""
        return self._at_one_moment(lambda reads: reads.tombstone(image_id))

    def copy_database(self, target: Path) -> None:
        """Copies the database as of now into a new folder. Files that never change are linked, not copied.

        Raises:
            WriteError: The folder cannot be written.
        """
        with self._gate:
            self._usable().copy(target)

    def scrub(self, touched: Touched | None) -> None:
        """See `ClusterStore.scrub`. The stream goes on meanwhile.

        Moments that were taken before keep old versions, so it waits for them, at most `SCRUB_PATIENCE_S`. If the list
        of tables names an image, the database is opened anew at the end.
        """
        self._outwait_readers()
        with self._gate:
            database = self._usable()
            self._readers += 1
        dropped, ranges = self._dropped, key_ranges(touched)
        first = database.get(META, DROPPED)
        if first is not None:
            ranges += plan_ranges(first)
        try:
            database.flush()
            for each in ranges:
                if self._closed:
                    raise UnavailableError("the store is closed")
                database.rewrite(each)
        finally:
            with self._gate:
                self._readers -= 1
                self._gate.notify_all()
        if first is not None:
            with self._writer:
                self._current()
                if dropped == self._dropped:
                    self._write([(META, DROPPED, None)])
        if names_anything(self._database_folder, touched):
            with self._writer:
                self._usable()
                self._reopen()

    def _outwait_readers(self) -> None:
        """Waits until the moments of now are gone.

        Raises:
            UnavailableError: Some are still read. After `SCRUB_PATIENCE_S` they are taken from their readers.
        """
        with self._gate:
            old = set(self._leases)
        patience_end = time.monotonic() + SCRUB_WAIT_S
        while old & self._leases and time.monotonic() < patience_end:
            time.sleep(SCRUB_POLL_S)
        held = old & self._leases
        if not held:
            self._scrub_waits = None
            return
        now = time.monotonic()
        self._scrub_waits = self._scrub_waits or now
        if now - self._scrub_waits < SCRUB_PATIENCE_S:
            raise UnavailableError(f"{len(held)} long reads hold old records that are to be erased", SCRUB_WAIT_S)
        log.warning("%d long reads end, because what they hold is to be erased", len(held))
        with self._gate:
            self._leases -= held
        for lease in held:
            lease.revoke()

    def close(self) -> None:
        """Closes the store. Running reads end with an `UnavailableError`."""
        with self._writer:
            self._closed = True
            self._close_database()

    def _open(self, create: bool) -> Database:
        return Database(self._database_folder, self._options, create)

    def _read_overrides(self) -> None:
        """Those in the log stand; what the database lacks of them is applied where it was applied first.

        The log is read now that the database is open: before, another process could have added to it.

        Raises:
            CorruptedError: The log is damaged, or lacks overrides that the database has.
        """
        self._overrides = OverrideLog(self._folder)
        state = self._current()[0]
        applied = state.overrides
        for override in self._overrides.overrides():
            self._book.keep(override)
            if override.number <= applied:
                self._book.apply(override)
        self._found = self._book.last, state.position.offset
        if self._book.last < applied:
            raise CorruptedError(
                f"the store in {self._folder} has applied {applied} overrides, and its overrides.log has "
                f"{self._book.last}: put that file back"
            )

    def _finish(self, identity: str) -> None:
        """Completes a new store. After a crash before the marker is written the store is still new."""
        database = self._usable()
        value = database.get(META, STATE)
        if value is not None and state_codec.decode_state(value) != StoreState():
            raise CorruptedError(f"the store in {self._folder} holds records, but store.json is missing")
        database.write([(META, STATE, state_codec.encode_state(StoreState()))])
        with as_write_error(self._folder):
            write_marker(self._folder, identity)

    def _upgrade(self, identity: str, found: int) -> None:
        """Raises a store of an older format. After a crash before the marker is written it is raised again."""
        if found == codec.OLDEST_FORMAT:
            self._mend_unscored()
        if found < codec.HISTORY_BY_IMAGE:
            log.info("the store in %s has an older format: reading its history once", self._folder)
            self._index_history()
        with as_write_error(self._folder):
            write_marker(self._folder, identity, self._database_folder.name)

    def _mend_unscored(self) -> None:
        """Flags unscored images in a store of format 1.

        There only an image's last cause said that it is unscored, so one that was adopted since counted as scored. Its
        own history entry still says it.
        """
        with self.snapshot() as view:
            for entry in view.history_from(0):
                if entry.cause is not Cause.UNSCORED:
                    continue
                image = view.image(entry.image_id)
                if image is not None and image.place == entry.place and image.cause is Cause.ADOPTED:
                    mended = codec.encode_image(replace(image, unscored=True))
                    self._write([("images", codec.image_key(image.image_id), mended)])

    def _index_history(self) -> None:
        """Makes the history of each image known in a store of an older format."""
        with self.snapshot() as view:
            entries = view.history_from(0)
            while writes := [of_image(entry) for entry in islice(entries, INDEXED_AT_ONCE)]:
                self._write(writes)

    def _at_one_moment(self, read: Callable[[PointReads], T]) -> T:
        """What `read` finds, all of one moment.

        A snapshot of all families takes longer than hundreds of reads. So records are read as they are now, and read
        again if something was written meanwhile. Only a store that is written all the time takes a snapshot.
        """
        with self._gate:
            database = self._usable()
            self._readers += 1
        try:
            with translated(self._folder):
                for _ in range(TRIES):
                    before = database.sequence()
                    found = read(LiveReader(database))
                    if database.sequence() == before:
                        return found
        finally:
            with self._gate:
                self._readers -= 1
                self._gate.notify_all()
        with self.snapshot() as view:
            return read(view)

    def _usable(self) -> Database:
        if self._closed:
            raise UnavailableError("the store is closed")
        if self._database is None:
            raise UnavailableError("the store is being reopened after the disk refused a write", 1.0)
        return self._database

    def _current(self) -> tuple[StoreState, Reader]:
        if self._broken and not self._closed:
            self._reopen()
        if self._overrides is not None:
            self._overrides.mend()
        reader = LiveReader(self._usable())
        return reader.state(), reader

    def _keep(self, override: Override) -> None:
        assert self._overrides is not None
        self._overrides.append(override)

    def _commit(self, changes: Changes) -> None:
        self._commit_with(changes, ())

    def _commit_with(self, changes: Changes, more: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None:
        writes = _writes(changes)
        if self._usable().has_bulk:  # what is written now is no longer planned
            writes += [("planned", codec.image_key(image_id), None) for image_id in changes.images]
            writes += [("deltas", codec.image_key(head), None) for head in changes.clusters]
        self._write([*writes, *more], ranges)

    def _operation_rows(self, after: int, limit: int) -> list[bytes]:
        with self.snapshot() as view:
            return list(islice(view.operations(after), limit))

    def _read_through_bulk(self, through: bool) -> None:
        with self._gate:  # so that no moment is taken meanwhile
            self._usable().has_bulk = through

    def _commit_published(self, number: int, mark: PublishedMark | None) -> None:
        where = None if mark is None else state_codec.encode_mark(mark)
        self._write([(META, PUBLISHED, codec.encode_number(number)), (META, MARK, where)])

    def _commit_epoch(self, epoch: StoreEpoch) -> None:
        published = codec.encode_number(epoch.first - 1)
        self._write([(META, EPOCH, state_codec.encode_epoch(epoch)), (META, PUBLISHED, published), (META, MARK, None)])

    def _commit_swept(self, state: StoreState, sweep: Sweep) -> None:
        self._write(*_swept(state, sweep))

    def _commit_sent(self, offsets: Collection[int]) -> None:
        self._write([("dead_letters", codec.encode_number(offset), None) for offset in offsets])

    def _write(self, writes: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None:
        try:
            self._usable().write(writes, ranges)
        except StorageError:
            self._broken = True
            raise

    def _reopen(self) -> None:
        """Reopens the database after a refused write, if there is space again.

        Raises:
            WriteError: There is still no space.
        """
        _probe(self._folder)
        self._close_database()
        self._database = self._open(create=False)
        self._broken = False
        self._find_bulk()

    def _close_database(self) -> None:
        with self._gate:
            database, self._database = self._database, None
            leases, self._leases = self._leases, set()
            self._gate.wait_for(lambda: not self._readers)
        for lease in leases:
            lease.revoke()
        if database is not None:
            with contextlib.suppress(StorageError):  # closing flushes first, which a full disk refuses
                database.close()


def _writes(changes: Changes) -> list[Write]:
    """Every change as family, key and value."""
    writes: list[Write] = []
    for image_id, image in changes.images.items():
        writes.append(("images", codec.image_key(image_id), None if image is None else codec.encode_image(image)))
    for head, cluster in changes.clusters.items():
        writes.append(("clusters", codec.image_key(head), None if cluster is None else codec.encode_cluster(cluster)))
    for image_id, tombstone in changes.tombstones.items():
        value = None if tombstone is None else codec.encode_tombstone(tombstone)
        writes.append(("tombstones", codec.image_key(image_id), value))
    for (head, sequence), member in changes.edges.items():
        value = None if member is None else codec.image_key(member)
        writes.append(("edges", codec.edge_key(head, sequence), value))
    for place, embedding in changes.embeddings.items():
        value = None if embedding is None else codec.encode_embedding(embedding)
        writes.append(("embeddings", codec.place_key(place), value))
    for entry in changes.history:
        writes += history_rows(entry)
    for head, ended in changes.ended:
        writes.append(("ended", codec.edge_key(head, ended.number), codec.encode_cluster(ended.cluster)))
    if changes.second is not None:
        number = codec.encode_number(changes.state.history_number)
        writes.append(("moments", codec.encode_number(changes.second), number))
    for offset, record in changes.dead_letters.items():
        writes.append(("dead_letters", codec.encode_number(offset), codec.encode_dead_letter(record)))
    for pseudonym, erasure in changes.erasures.items():
        writes.append(("erasures", codec.image_key(pseudonym), codec.encode_erasure(erasure)))
    for manifest_id, progress in changes.deltas.items():
        writes.append((META, DELTA + manifest_id.encode(), state_codec.encode_delta_progress(progress)))
    if changes.pseudonyms is not None:
        writes.append((META, FORGET_KEY, changes.pseudonyms.key))
    if changes.erased is not None:
        writes += _erased_writes(changes.erased)
    writes.append((META, STATE, state_codec.encode_state(changes.state)))
    return writes


def _swept(state: StoreState, sweep: Sweep) -> tuple[list[Write], list[KeyRange]]:
    """What a sweep writes, and the ranges that it removes."""
    number, writes = codec.encode_number, list[Write]()
    for entry in sweep.entries:
        writes.append(("history_of", codec.edge_key(entry.image_id, entry.number), None))
    for head, at in sweep.ended:
        writes.append(("ended", codec.edge_key(head, at), None))
    for offset, place in sweep.unscored:
        writes.append((META, UNSCORED + number(offset), number(place)))
    writes.append((META, STATE, state_codec.encode_state(state)))
    ranges = [KeyRange("history", number(sweep.first), number(sweep.next_first))]
    if sweep.seconds is not None:
        start, end = sweep.seconds
        ranges.append(KeyRange("moments", number(start), number(end)))
    return writes, ranges


def _erased_writes(gone: Erased) -> Iterator[Write]:
    for entry in gone.entries:
        yield "history", codec.encode_number(entry.number), codec.encode_history(entry)
    for image_id, number in gone.unlisted:
        yield "history_of", codec.edge_key(image_id, number), None
    for head, number in gone.ended:
        yield "ended", codec.edge_key(head, number), None
    for offset in gone.dead_letters:
        yield "dead_letters", codec.encode_number(offset), None
    yield META, ERASING, None if gone.cursor is None else state_codec.encode_erase_cursor(gone.cursor)


def _probe(folder: Path) -> None:
    """Checks that the disk has space for `PROBE_BYTES` more."""
    file = folder / "probe"
    with as_write_error(folder):
        try:
            with file.open("wb") as handle:
                os.posix_fallocate(handle.fileno(), 0, PROBE_BYTES)
        finally:
            file.unlink(missing_ok=True)
