"""What a store offers so that it can begin with a manifest: fresh content beside the live one, and the swap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from storage.interfaces import StoreView
from storage.loading.rows import LoadedRows
from storage.records import FirstLoad

__all__ = ["LoadCursor", "LoadStage", "LoadTarget", "TakesFirstLoad"]


class LoadStage(StrEnum):
    """What is written next."""

    ROWS = "rows"
    CLUSTERS = "clusters"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class LoadCursor:
    """How far fresh content is written. What comes after it may be there too, and is written again, the same."""

    stage: LoadStage = LoadStage.ROWS
    rows: int = 0
    numbers: int = 0
    """History entries."""
    after: str = ""
    """Hexadecimal: the prefix of the edges of the last cluster."""
    clusters: int = 0
    members: int = 0
    """Of these clusters."""


class LoadTarget(Protocol):
    """The fresh content. One thread uses it."""

    def cursor(self) -> LoadCursor:
        """How far it is written."""
        ...

    def add(self, rows: LoadedRows) -> None:
        """Takes rows. They are durable once a cursor after them is kept.

        Raises:
            WriteError: The disk refuses them. Open the target again.
        """
        ...

    def is_due(self) -> bool:
        """Whether a cursor should be kept now, so that memory stays bounded."""
        ...

    def keep(self, cursor: LoadCursor) -> None:
        """Makes durable what was added, and the cursor.

        Raises:
            WriteError: The disk refuses it. Open the target again.
        """
        ...

    def make_clusters(self, cursor: LoadCursor, founded_at_ms: int) -> Iterator[LoadCursor]:
        """Writes the clusters after a cursor, and keeps cursors on the way.

        Args:
            cursor: All rows are written.
            founded_at_ms: When all of them were founded, in milliseconds since the epoch.

        Raises:
            CorruptedError: What was written is damaged.
            WriteError: The disk refuses it. Open the target again.
        """
        ...

    def counts(self, on_keys: Callable[[int], None]) -> dict[str, int]:
        """How many records each family of `storage.loading.checking.COUNTED` has, counted one by one.

        Args:
            on_keys: Told after each some thousand of them. What it raises ends the count.
        """
        ...

    def view(self) -> AbstractContextManager[StoreView]:
        """The content, as those see it who will be served from it."""
        ...

    def finish(self, load: FirstLoad) -> None:
        """Makes durable that it is whole, with its state and what it was loaded from."""
        ...

    def close(self) -> None:
        """Ends the use of the content; a second call does nothing."""
        ...


@runtime_checkable
class TakesFirstLoad(Protocol):
    """A store that can begin with a manifest."""

    @property
    def load_folder(self) -> Path:
        """Where what belongs to a load lies, beside the content."""
        ...

    def check_untouched(self) -> None:
        """Makes sure that no record of the order was applied yet.

        Raises:
            MismatchError: One was; the message says what there is.
        """
        ...

    def hold(self, why: Callable[[], str] | None) -> None:
        """From now on records of the order and overrides have to wait, as long as a reason is given.

        Raises:
            MismatchError: A record of the order was applied before.
        """
        ...

    def open_target(self) -> LoadTarget:
        """Opens the fresh content, or makes it.

        Raises:
            StorageError: It is damaged, or the disk refuses it.
        """
        ...

    def is_built(self) -> bool:
        """Whether there is fresh content, and it is finished.

        Raises:
            StorageError: It is damaged, or the disk refuses it.
        """
        ...

    def remove_leftovers(self, *, keep_target: bool) -> None:
        """Removes content that nobody is served from: of earlier loads and conversions, and from before a swap.

        Args:
            keep_target: The fresh content stays.

        Raises:
            StorageError: The disk refuses it, or it is not known which content is the store's.
        """
        ...

    def swap(self, log_id: str) -> None:
        """Makes the fresh content, which is finished, the store's own, durably, and closes the store.

        Args:
            log_id: Kafka's topic id of `joined`, whose offset 0 comes right after the last row.

        Raises:
            MismatchError: A record of the order was applied before.
            StorageError: It is damaged, or the disk refuses the change: then the store stays as it was. It is no error
                if the disk takes the change and only refuses to make it durable.
        """
        ...
