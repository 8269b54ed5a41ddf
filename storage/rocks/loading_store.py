"""First loads of a RocksDB store: where their content lies, and how it becomes the store's."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from core.errors import MismatchError
from core.files import sync_folder
from core.types import NO_OFFSET
from storage.errors import StorageError, WriteError, as_write_error
from storage.loading.kept import FOLDER
from storage.records import StoreState
from storage.rocks.bulk_forgets import BulkForgets
from storage.rocks.loader import RocksLoadTarget
from storage.rocks.marker import next_database, read_marker, remove_databases, write_marker
from storage.rocks.options import RocksOptions

__all__ = ["LoadingStore"]

log = logging.getLogger(__name__)

_TABLES = "tables"


class LoadingStore(BulkForgets):
    """The part of `RocksStore` on first loads: see `storage.loading.interfaces.TakesFirstLoad`."""

    _folder: Path
    _database_folder: Path
    _options: RocksOptions
    _identity: str

    @abstractmethod
    def close(self) -> None: ...

    @property
    def load_folder(self) -> Path:
        """See `TakesFirstLoad.load_folder`."""
        return self._folder / FOLDER

    def check_untouched(self) -> None:
        """See `TakesFirstLoad.check_untouched`."""
        with self._writer:
            _check_untouched(self._current()[0])

    def hold(self, why: Callable[[], str] | None) -> None:
        """See `TakesFirstLoad.hold`."""
        with self._writer:
            if why is not None:
                _check_untouched(self._current()[0])
            self._held = why

    def open_target(self) -> RocksLoadTarget:
        """See `TakesFirstLoad.open_target`."""
        return RocksLoadTarget(self._folder / self._next, self.load_folder / _TABLES, self._options)

    def is_built(self) -> bool:
        """See `TakesFirstLoad.is_built`."""
        if not (self._folder / self._next).exists():
            return False
        with closing(self.open_target()) as target:
            return target.is_finished()

    def remove_leftovers(self, *, keep_target: bool) -> None:
        """See `TakesFirstLoad.remove_leftovers`."""
        marker = read_marker(self._folder)
        keep = {self._database_folder.name, *([marker.database] if marker else []), *([self._next] * keep_target)}
        with as_write_error(self._folder):
            sync_folder(self._folder)  # after a swap that was not surely durable, the old content is still needed
            remove_databases(self._folder, keep)

    def swap(self, log_id: str) -> None:
        """See `TakesFirstLoad.swap`."""
        with self._writer:
            state, _ = self._current()
            _check_untouched(state)
            with closing(self.open_target()) as target:
                target.settle(state, log_id)
            try:
                with as_write_error(self._folder):
                    write_marker(self._folder, self._identity, self._next)
            except WriteError as error:
                if self._is_marked():
                    raise
                log.warning("the swap is done, and a power cut may undo it: %s", error)
            log.info("the store in %s is now %s, which a first load has made", self._folder, self._next)
            self.close()

    def _is_marked(self) -> bool:
        """Whether the next start surely opens the content that is open now."""
        try:
            marker = read_marker(self._folder)
        except StorageError:
            return False  # the next start finds out
        return marker is not None and marker.database == self._database_folder.name

    @property
    def _next(self) -> str:
        return next_database(self._database_folder.name)


def _check_untouched(state: StoreState) -> None:
    counts = {
        "images": state.images,
        "tombstones": state.tombstones,
        "history entries": state.history_number,
        "records of the order": state.position.offset - NO_OFFSET,
    }
    there = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if there:
        raise MismatchError(f"a first load needs a store to which nothing was applied, and this one has {there}")
