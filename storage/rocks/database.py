"""One open RocksDB database: atomic writes over all families, and reads of all families as of one moment.

The library's `Snapshot` answers point reads as of its moment, but its iterators show what is there when they are made
(rocksdict 0.3.29). An iterator, once made, stays at its moment; so a `Moment` has both made at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rocksdict import Rdict, RdictIter, Snapshot, WriteBatch

from storage.rocks.options import FAMILIES, META, RocksOptions, database_options, family_options, write_options
from storage.rocks.translate import ours, translated

__all__ = ["Database", "Moment", "Write"]

Write = tuple[str, bytes, bytes | None]
"""Family, key, value; a value of None deletes."""

TRIES = 8
"""How often a moment is taken without a lock before the writer is made to wait."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Every family as of one moment: for point reads, and one cursor each for scans."""

    snapshots: Mapping[str, Snapshot]
    cursors: Mapping[str, RdictIter]


class Database:
    """Open from construction to `close`. One thread writes at a time, any number read."""

    def __init__(self, folder: Path, settings: RocksOptions, create: bool) -> None:
        """Opens the database in `folder`.

        Raises:
            LockedError: Another process has it.
            CorruptedError: It is damaged, or not there and `create` is False.
            DiskFullError: Recovery found no room.
        """
        self._folder = folder
        self._settings = settings
        self._writing = threading.Lock()
        with translated(folder):
            self._db = Rdict(str(folder), database_options(settings, create), family_options(settings))
            self._families = {META: self._db} | {name: self._db.get_column_family(name) for name in FAMILIES}
            self._handles = {name: self._db.get_column_family_handle(name) for name in (META, *FAMILIES)}

    def get(self, family: str, key: bytes) -> bytes | None:
        """The value of a key as of now."""
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:
            raise ours(error, self._folder) from error
        return value

    def write(self, writes: Iterable[Write], sync: bool = True) -> None:
        """Writes all or nothing; synced when it returns, unless `sync` or the settings say otherwise.

        Raises:
            WriteError: The disk did not take it. Whether it is there shows only after the database was opened anew.
        """
        batch = WriteBatch(raw_mode=True)
        for family, key, value in writes:
            if value is None:
                batch.delete(key, self._handles[family])
            else:
                batch.put(key, value, self._handles[family])
        with self._writing, translated(self._folder):
            self._db.write(batch, write_options(sync and self._settings.sync))

    def moment(self) -> Moment:
        """All families as of now.

        The library takes snapshots one by one. When the database's sequence number is the same before and after,
        nothing was written between them; else they are taken again, at last with the writer held back (for one write
        at most).
        """
        with translated(self._folder):
            for _ in range(TRIES):
                before = self._db.latest_sequence_number()
                taken = self._take()
                if self._db.latest_sequence_number() == before:
                    return taken
            with self._writing:
                return self._take()

    def close(self) -> None:
        """Closes it. The folder stays locked until the last moment taken is gone."""
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
