"""Writes a first load into a fresh RocksDB beside the one that serves: as tables that RocksDB takes in whole.

    1. rows are collected; embeddings and history ascend with them, so their tables are written at once
    2. the other families are sorted when a part is complete, then all tables of the part are taken in
    3. a replaced file in the folder of the database keeps the cursor

A kill between the last two writes a part again, with the same keys and values. RocksDB merges the tables of sorted
parts in the background, as it does with its own.

Nothing goes through memtables and the log of writes before the end. Tables that are taken in raise the sequence number,
and a log whose numbers have gaps is refused as one that has lost records (`storage.rocks.log_check`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from rocksdict import SstFileWriter

from core.checked_json import read_checked, write_checked
from core.types import LogPosition
from storage import codec, state_codec
from storage.errors import CorruptedError, as_write_error
from storage.interfaces import StoreView
from storage.loading.checking import COUNTED
from storage.loading.clusters import counted_clusters
from storage.loading.interfaces import LoadCursor, LoadStage
from storage.loading.rows import ASCENDING, FOUNDING, LoadedRows, Pair
from storage.records import FirstLoad, StoreState
from storage.rocks.database import Database
from storage.rocks.options import META, RocksOptions, family_options
from storage.rocks.translate import translated
from storage.rocks.views import FIRST_LOAD, STATE, Lease, SnapshotView

__all__ = ["RocksLoadTarget"]

PART_ROWS = 131_072
"""Rows of a part: some 100 MB of keys and values are sorted at once."""

PART_BYTES = 256 * 1024 * 1024
"""Embeddings of a part; one of long vectors has fewer rows."""

CLUSTERS_AT_ONCE = 131_072
"""Clusters that are sorted at once."""

_CURSOR = "load-cursor.json"
_FORMAT = 1


class RocksLoadTarget:
    """See `LoadTarget`."""

    def __init__(self, folder: Path, tables: Path, options: RocksOptions) -> None:
        """Opens the database, or makes a new one.

        Args:
            folder: Of the database.
            tables: A folder for tables, on the same volume. What is in it goes.
            options: The settings of RocksDB.

        Raises:
            CorruptedError: It is damaged.
            WriteError: The disk refuses it.
        """
        self._folder = folder
        with as_write_error(tables):
            shutil.rmtree(tables, ignore_errors=True)
            tables.mkdir(parents=True)
        self._tables = _Tables(tables, options)
        self._database = Database(folder, options, create=True, more=(FOUNDING,))
        self._sorted: dict[str, list[Pair]] = {}
        self._rows = 0

    def cursor(self) -> LoadCursor:
        """See `LoadTarget.cursor`."""
        try:
            content = read_checked(self._folder / _CURSOR).body
            return LoadCursor(**{**content, "stage": LoadStage(content["stage"])})
        except FileNotFoundError:
            return LoadCursor()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CorruptedError(f"{self._folder / _CURSOR} is damaged: {error}") from error

    def add(self, rows: LoadedRows) -> None:
        """See `LoadTarget.add`."""
        self._rows += rows.rows
        with translated(self._folder):
            for family, pairs in rows.pairs.items():
                if family in ASCENDING:
                    self._tables.add(family, pairs)
                else:
                    self._sorted.setdefault(family, []).extend(pairs)

    def is_due(self) -> bool:
        """See `LoadTarget.is_due`."""
        return self._rows >= PART_ROWS or self._tables.size("embeddings") >= PART_BYTES

    def keep(self, cursor: LoadCursor) -> None:
        """See `LoadTarget.keep`."""
        with translated(self._folder):
            for family, pairs in self._sorted.items():
                pairs.sort()
                self._tables.add(family, pairs)
            self._sorted = {}
            self._rows = 0
            for family, table in self._tables.finished():
                self._database.ingest(family, [table])
        with as_write_error(self._folder):
            write_checked(self._folder / _CURSOR, _FORMAT, asdict(cursor))

    def make_clusters(self, cursor: LoadCursor, founded_at_ms: int) -> Iterator[LoadCursor]:
        """See `LoadTarget.make_clusters`."""
        after = bytes.fromhex(cursor.after)
        start = after + b"\xff" * 9 if after else b""  # behind all edges of that cluster
        edges = (row.key() for row in self._database.scan("edges", start))
        founding = ((row.key(), row.value()) for row in self._database.scan(FOUNDING, start))
        pairs = self._sorted.setdefault("clusters", [])
        cursor = replace(cursor, stage=LoadStage.CLUSTERS)
        for each in counted_clusters(edges, founding, founded_at_ms):
            pairs.append((each.key, each.value))
            cursor = replace(
                cursor,
                after=each.prefix.hex(),
                clusters=cursor.clusters + 1,
                members=cursor.members + each.members,
            )
            if len(pairs) == CLUSTERS_AT_ONCE:
                self.keep(cursor)
                yield cursor
                pairs = self._sorted.setdefault("clusters", [])
        cursor = replace(cursor, stage=LoadStage.DONE)
        self.keep(cursor)
        yield cursor

    def counts(self, on_keys: Callable[[int], None]) -> dict[str, int]:
        """See `LoadTarget.counts`."""
        return {family: self._database.count(family, on_keys) for family in COUNTED}

    @contextmanager
    def view(self) -> Iterator[StoreView]:
        """See `LoadTarget.view`."""
        lease = Lease(self._database.moment())
        try:
            yield SnapshotView(self._folder, lease, has_bulk=False)
        finally:
            lease.revoke()

    def finish(self, load: FirstLoad) -> None:
        """See `LoadTarget.finish`."""
        number = codec.encode_number(load.last_number)
        state = StoreState(
            position=LogPosition("", load.rows - 1, 0, load.rows),
            images=load.images,
            clusters=load.clusters,
            history_number=load.last_number,
            superseded=load.rows - load.images,
        )
        self._database.write(
            [
                ("moments", codec.encode_number(load.started_ms // 1000), number),
                (META, FIRST_LOAD, state_codec.encode_first_load(load)),
                (META, STATE, state_codec.encode_state(state)),
            ]
        )

    def is_finished(self) -> bool:
        """Whether `finish` was called."""
        return self._database.get(META, STATE) is not None

    def settle(self, before: StoreState, log_id: str) -> None:
        """Makes ready to serve what is finished.

        Args:
            before: The state of the store whose place it takes: what is required of the job stays required.
            log_id: Kafka's topic id of `joined`.

        Raises:
            CorruptedError: It is not finished.
            WriteError: The disk refuses it.
        """
        value = self._database.get(META, STATE)
        if value is None:
            raise CorruptedError(f"the first load in {self._folder} is not finished")
        state = state_codec.decode_state(value)
        state = replace(
            state,
            position=replace(state.position, log_id=log_id),
            revision=before.revision + 1,
            kinds=before.kinds,
            required=before.required,
        )
        self._database.write([(META, STATE, state_codec.encode_state(state))])
        self._database.drop(FOUNDING)

    def close(self) -> None:
        """See `LoadTarget.close`."""
        self._tables.close()
        self._database.close()


class _Tables:
    """Tables that are being written, one of each family."""

    def __init__(self, folder: Path, options: RocksOptions) -> None:
        self._folder = folder
        self._options = family_options(options, [FOUNDING])
        self._open: dict[str, SstFileWriter] = {}

    def add(self, family: str, pairs: Sequence[Pair]) -> None:
        """Writes pairs, in the order of their keys, behind those that are there."""
        if not pairs:
            return
        table = self._open.get(family)
        if table is None:
            table = self._open[family] = SstFileWriter(self._options[family])
            table.open(str(self._folder / family))
        write = table.__setitem__
        for key, value in pairs:
            write(key, value)

    def size(self, family: str) -> int:
        """The bytes of a table so far."""
        return self._open[family].file_size() if family in self._open else 0

    def finished(self) -> Iterator[tuple[str, Path]]:
        """Each family that has a table, and its file, which is whole and synced."""
        tables, self._open = self._open, {}
        for family, table in tables.items():
            table.finish()
            yield family, self._folder / family

    def close(self) -> None:
        """Leaves what is not finished."""
        self._open = {}
