"""What is kept of a first load beside the store.

    load/load.json     the request, the state and the totals, with a checksum
    load/superseded    the rows that a later one of the same image takes the place of: i64, ascending
    load/tables/       tables that are being written
    load/spool/        copies of files that lie elsewhere, and buckets of identities

How many rows are in the database is kept in that database itself.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from core.checked_json import read_checked, write_checked
from core.first_loads import LoadRequest, LoadState
from storage.errors import CorruptedError, IncompatibleError, as_write_error

__all__ = ["FOLDER", "KeptLoad", "read_kept", "remove_all_but_kept", "write_kept"]

FOLDER = "load"
"""Beside the databases of a store."""

_FILE = "load.json"
_FORMAT = 1


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
        IncompatibleError: It has another format.
    """
    file = folder / _FILE
    try:
        found = read_checked(file)
        if not found.checked:
            raise ValueError("it has no checksum")
        if found.format != _FORMAT:
            raise IncompatibleError(f"{file} has format {found.format}, this server reads {_FORMAT}")
        body = found.body
        request, state = LoadRequest(**body.pop("request")), LoadState(body.pop("state"))
        return KeptLoad(request, state=state, **body)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptedError(f"{file} is damaged: {error}") from error


def remove_all_but_kept(folder: Path) -> None:
    """Removes what a load wrote into its folder, but not what is kept of it.

    Raises:
        WriteError: The disk refuses it.
    """
    with as_write_error(folder):
        for each in folder.iterdir() if folder.exists() else ():
            if each.is_dir():
                shutil.rmtree(each)
            elif each.name != _FILE:
                each.unlink()


def write_kept(folder: Path, load: KeptLoad) -> None:
    """Keeps a load, durably.

    Raises:
        WriteError: The disk refuses it.
    """
    with as_write_error(folder):
        folder.mkdir(exist_ok=True)
        write_checked(folder / _FILE, _FORMAT, asdict(load))
