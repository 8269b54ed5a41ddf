"""The file `store.json` beside the database: read before the database is opened, written after it was created.

It holds the format version, the identity of what the store serves, such as the signal's embeddings, and the folder of
the database, with a checksum. So one replaced file changes identity and database together (`storage.rocks.converting`).
If the file is there and the database is not, the database was lost, and no new one is created.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from core.checked_json import read_checked, write_checked
from storage.codec import FORMAT_VERSION, OLDEST_FORMAT
from storage.errors import CorruptedError, IncompatibleError

__all__ = [
    "FIRST_DATABASE",
    "StoreMarker",
    "check_marker",
    "next_database",
    "read_marker",
    "remove_databases",
    "write_marker",
]

FIRST_DATABASE = "db"
"""The folder of the database of a store that was never converted, and of every store before format 4."""

_NAME = "store.json"
_GONE = ".gone"
_DATABASE = re.compile(r"db(?:-(\d{6}))?")


@dataclass(frozen=True, slots=True)
class StoreMarker:
    """The content of `store.json`."""

    format: int
    identity: str
    database: str
    """The folder of the database, beside the marker."""


def read_marker(folder: Path) -> StoreMarker | None:
    """The marker of the store in a folder; None: there is no complete store.

    Raises:
        IncompatibleError: The store has another format.
        CorruptedError: The marker cannot be read.
    """
    file = folder / _NAME
    try:
        marker = read_checked(file)
        body = marker.body if marker.checked else _unchecked(marker.body)
        _check_format(file, marker.format)
        identity = str(body["identity"])
        database = str(body.get("database", FIRST_DATABASE))
        if not _DATABASE.fullmatch(database):
            raise ValueError(f"{database!r} names no database")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        raise CorruptedError(f"{file} is damaged: {error}") from error
    return StoreMarker(marker.format if marker.checked else OLDEST_FORMAT, identity, database)


def check_marker(folder: Path, identity: str) -> StoreMarker | None:
    """The marker of the store in a folder, which must serve what `identity` says; None: there is no complete store.

    Raises:
        IncompatibleError: The store has another format, or another identity.
        CorruptedError: The marker cannot be read.
    """
    marker = read_marker(folder)
    if marker is not None and marker.identity != identity:
        raise IncompatibleError(
            f"{folder / _NAME}: the store was made for {marker.identity!r}, the settings say {identity!r}"
        )
    return marker


def write_marker(folder: Path, identity: str, database: str = FIRST_DATABASE) -> None:
    """Marks a store as complete and of the newest format, durably."""
    write_checked(folder / _NAME, FORMAT_VERSION, {"identity": identity, "database": database})


def next_database(name: str) -> str:
    """The folder of the database that comes after one of this name."""
    found = _DATABASE.fullmatch(name)
    return f"{FIRST_DATABASE}-{int((found and found[1]) or 1) + 1:06}"


def remove_databases(folder: Path, keep: Collection[str]) -> None:
    """Removes every database of a store but some. What a kill leaves of one has another name, so nobody opens it."""
    for each in folder.glob(f"{FIRST_DATABASE}*{_GONE}"):
        shutil.rmtree(each)
    for each in folder.glob(f"{FIRST_DATABASE}*"):
        if each.name not in keep and each.is_dir():
            shutil.rmtree(each.rename(each.with_name(each.name + _GONE)))


def _check_format(file: Path, found: int) -> None:
    if not OLDEST_FORMAT <= found <= FORMAT_VERSION:
        raise IncompatibleError(
            f"{file}: the store has format {found}, this server reads {OLDEST_FORMAT} to {FORMAT_VERSION}"
        )


def _unchecked(content: dict[str, object]) -> dict[str, object]:
    """The content of a marker of release 0.1."""
    if content.keys() != {"format", "identity"}:
        raise ValueError(f"it has the keys {sorted(content)}, not format and identity")
    return content
