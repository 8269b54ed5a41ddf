"""One open RocksDB database: atomic writes over all families, and reads of all families as of one moment.

A `Snapshot` of the library answers point reads as of its moment, but its iterators show the content at the time when
they are made (rocksdict 0.3.29). An iterator then stays at that time. So a `Moment` makes both at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rocksdict import (
    BottommostLevelCompaction,
    Checkpoint,
    CompactOptions,
    IngestExternalFileOptions,
    Rdict,
    RdictIter,
    Snapshot,
    WriteBatch,
)

from storage.rocks.log_check import cut_torn_ends
from storage.rocks.options import FAMILIES, META, RocksOptions, database_options, family_options, write_options
from storage.rocks.translate import ours, translated

__all__ = ["AFTER_ALL", "Database", "KeyRange", "Moment", "Write"]

Write = tuple[str, bytes, bytes | None]
"""Family, key, value. A value of None deletes."""


AFTER_ALL = b"\xff" * 300
"""Above every key, and behind a prefix above every key with it."""


class KeyRange(NamedTuple):
    """The keys of a family from one on, and before another."""

    family: str
    start: bytes
    end: bytes


TRIES = 8
"""How often a moment is tried without a lock before the writer has to wait."""


TELL_EVERY = 10_000
"""Rows between two reports of a count."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Every family as of one moment: a snapshot for point reads, and a cursor for scans."""

    snapshots: Mapping[str, Snapshot]
    cursors: Mapping[str, RdictIter]


class Database:
    """A database, open until `close`. One thread writes at a time, any number read."""

    def __init__(self, folder: Path, settings: RocksOptions, create: bool, more: Sequence[str] = ()) -> None:
        """Opens the database in `folder`.

        Args:
            folder: Of the database.
            settings: Of RocksDB.
            create: Whether it is made if it is missing.
            more: Families that only this database has; they are made too.

        Raises:
            LockedError: Another process has it open.
            CorruptedError: It is damaged, or missing while `create` is False.
            DiskFullError: Recovery found no space.
        """
        self._folder = folder
        self._settings = settings
        self._writing = threading.Lock()
        self.has_bulk = True
        """Whether a bulk move may be planned or under way: then reads go through it (`storage.rocks.overlay`)."""
        cut_torn_ends(folder)
        with translated(folder):
            names = (*FAMILIES, *more)
            self._db = Rdict(str(folder), database_options(settings, create), family_options(settings, more))
            self._families = {META: self._db} | {name: self._db.get_column_family(name) for name in names}
            self._handles = {name: self._db.get_column_family_handle(name) for name in (META, *names)}

    def sequence(self) -> int:
        """A number that grows with every write."""
        return int(self._db.latest_sequence_number())

    def get(self, family: str, key: bytes) -> bytes | None:
        """The current value of a key."""
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:  # the library raises bare exceptions
            raise ours(error, self._folder) from error
        return value

    def get_many(self, family: str, keys: list[bytes]) -> list[bytes | None]:
        """The current values of keys, in their order. Errors are the library's.

        It takes less time than one get after the other, and unlike these lets other threads run meanwhile.
        """
        values: list[bytes | None] = self._families[family].get(keys)
        return values

    def write(self, writes: Iterable[Write], ranges: Iterable[KeyRange] = ()) -> None:
        """Writes all or nothing. It is synced on return, unless the settings say otherwise.

        Ranges are deleted first.

        So a power cut can only damage the last write: `storage.rocks.log_check` rests on that.

        Raises:
            WriteError: The disk refused it. Only after the database is reopened it is known whether it was written.
        """
        batch = WriteBatch(raw_mode=True)
        for each in ranges:
            batch.delete_range(each.start, each.end, self._handles[each.family])
        for family, key, value in writes:
            if value is None:
                batch.delete(key, self._handles[family])
            else:
                batch.put(key, value, self._handles[family])
        with self._writing, translated(self._folder):
            self._db.write(batch, write_options(self._settings.sync))

    def rows(self, family: str, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` of the present keys and values of a family, from a key on."""
        found: list[tuple[bytes, bytes]] = []
        with translated(self._folder):
            rows = self._families[family].iter()
            rows.seek(start)
            while rows.valid() and len(found) < limit:
                found.append((rows.key(), rows.value()))
                rows.next()
            if not rows.valid():
                rows.status()
        return found

    def scan(self, family: str, start: bytes = b"") -> Iterator[RdictIter]:
        """The present rows of a family from a key on: a cursor that stands on each of them in turn."""
        with translated(self._folder):
            rows = self._families[family].iter()
            rows.seek(start)
            while rows.valid():
                yield rows
                rows.next()
            rows.status()

    def count(self, family: str, tell: Callable[[int], None]) -> int:
        """How many rows a family has, counted one by one; `tell` is told after each `TELL_EVERY`."""
        count = 0
        with translated(self._folder):
            rows = self._families[family].iter()
            rows.seek(b"")
            valid, following = rows.valid, rows.next
            while valid():
                following()
                count += 1
                if count % TELL_EVERY == 0:
                    tell(count)
            rows.status()
        return count

    def ingest(self, family: str, tables: Sequence[Path]) -> None:
        """Takes finished tables into a family, all or none. Their files are moved.

        Raises:
            WriteError: The disk refused it.
        """
        options = IngestExternalFileOptions()
        options.set_move_files(True)
        with translated(self._folder):
            self._families[family].ingest_external_file([str(table) for table in tables], options)

    def drop(self, family: str) -> None:
        """Removes a family with all of its rows.

        Raises:
            WriteError: The disk refused it.
        """
        with translated(self._folder):
            self._families.pop(family).close()
            self._handles.pop(family)
            self._db.drop_column_family(family)

    def compact(self, each: KeyRange) -> None:
        """Removes what was deleted in a range for good, so that no scan reads past it."""
        with translated(self._folder):
            self._families[each.family].compact_range(each.start, each.end)

    def moment(self) -> Moment:
        """All families as of now.

        The library takes snapshots one by one. If the database has the same sequence number before and after, nothing
        was written between them. Else they are taken again, and after some tries while the writer waits.
        """
        with translated(self._folder):
            for _ in range(TRIES):
                before = self._db.latest_sequence_number()
                taken = self._take()
                if self._db.latest_sequence_number() == before:
                    return taken
            with self._writing:
                return self._take()

    def flush(self) -> None:
        """Writes all that is in memory into tables, so that the log of writes goes.

        Raises:
            WriteError: The disk refused it.
        """
        with translated(self._folder):
            for family in self._families.values():
                family.flush()

    def rewrite(self, each: KeyRange) -> None:
        """Writes the tables of a range anew, without what was replaced or deleted. Empty ends: of the whole family.

        What open moments show stays in the old tables until they are gone.

        Raises:
            WriteError: The disk refused it.
        """
        options = CompactOptions()
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        with translated(self._folder):
            self._families[each.family].compact_range(each.start or None, each.end or None, options)

    def copy(self, target: Path) -> None:
        """Copies the database as of now into a new folder. On the same volume, the tables are linked, not copied.

        Raises:
            WriteError: The disk refused it.
        """
        with translated(self._folder):
            Checkpoint(self._db).create_checkpoint(str(target))

    def close(self) -> None:
        """Closes the database. The folder stays locked until the last `Moment` is gone."""
        with translated(self._folder):
            try:
                self._db.close()
            finally:
                self._families = {}
                self._handles = {}

    def _take(self) -> Moment:
        families = self._families.items()
        return Moment(
            {name: family.snapshot() for name, family in families}, {name: family.iter() for name, family in families}
        )
