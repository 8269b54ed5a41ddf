"""What a first load is asked for, how far it is, and what is kept of it beside the store.

    load/load.json     the request, the state and the totals, with a checksum
    load/superseded    the rows that a later one of the same image takes the place of: i64, ascending
    load/tables/       tables that are being written
    load/spool/        copies of files that lie elsewhere, and buckets of identities

How many rows are in the database is kept in that database itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from core.checked_json import read_checked, write_checked
from storage.errors import CorruptedError, as_write_error

__all__ = ["FOLDER", "KeptLoad", "LoadReport", "LoadRequest", "LoadState", "read_kept", "write_kept"]

FOLDER = "load"
"""Beside the databases of a store."""

_FILE = "load.json"
_FORMAT = 1


class LoadState(StrEnum):
    """How far a first load is."""

    NONE = "none"
    """None was asked for."""
    LOADING = "loading"
    WAITING = "waiting"
    """The disk is full, or the folder does not answer: it goes on by itself."""
    FAILED = "failed"
    """The manifest or its files are wrong; nothing of it is left."""
    READY = "ready"
    """It is whole and checked, and nobody is served from it yet."""
    LIVE = "live"
    ABORTED = "aborted"
    """Somebody has ended it; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What somebody wants to begin with."""

    folder: str
    """A path or a URI."""
    name: str
    """Of the manifest, in that folder."""
    manifest_id: str
    log_id: str
    """Kafka's topic id of `joined`, whose offset 0 comes right after the last row."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """How far a first load is. Times are milliseconds since the epoch; 0: not yet."""

    state: LoadState = LoadState.NONE
    manifest_id: str = ""
    detail: str = ""
    """What it does, what it waits for, or what is wrong."""
    rows_done: int = 0
    rows_total: int = 0
    rows_per_s: float = 0.0
    """Of late, while it loads."""
    images: int = 0
    clusters: int = 0
    started_ms: int = 0
    ended_ms: int = 0


@dataclass(frozen=True, slots=True)
class KeptLoad:
    """A first load as it is kept beside the store; one that waits is kept as one that loads."""

    request: LoadRequest
    started_ms: int
    state: LoadState = LoadState.LOADING
    detail: str = ""
    rows: int = 0
    """Of the manifest; 0: it was not read yet."""
    images: int = 0
    clusters: int = 0
    ended_ms: int = 0

    @property
    def is_active(self) -> bool:
        """Whether it has or makes a database that may serve one day."""
        return self.state in (LoadState.LOADING, LoadState.READY)


def read_kept(folder: Path) -> KeptLoad | None:
    """The load whose folder this is; None: there was none.

    Raises:
        CorruptedError: The file is damaged.
    """
    file = folder / _FILE
    try:
        body = read_checked(file).body
        request, state = LoadRequest(**body.pop("request")), LoadState(body.pop("state"))
        return KeptLoad(request, state=state, **body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptedError(f"{file} is damaged: {error}") from error


def write_kept(folder: Path, load: KeptLoad) -> None:
    """Keeps a load, durably.

    Raises:
        WriteError: The disk refuses it.
    """
    with as_write_error(folder):
        folder.mkdir(exist_ok=True)
        write_checked(folder / _FILE, _FORMAT, asdict(load))
