"""RocksDB's errors as ours. The library raises bare exceptions, so only their text tells them apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rocksdict import DbClosedError

from core.errors import NeardupError, UnavailableError
from storage.errors import CorruptedError, DiskFullError, IncompatibleError, LockedError, StorageError, WriteError

__all__ = ["NOT_FOUND", "ours", "translated"]

NOT_FOUND = "key not found"
"""The message of a snapshot for a missing key."""

_FULL = ("No space left on device", "Disk quota exceeded", "File too large")
_LOCKED = ("lock hold by current process", "While lock file")
_DAMAGED = ("Corruption", "CURRENT", "MANIFEST", "checksum mismatch", ".sst: No such file", "does not exist")
_OTHER_FORMAT = ("Column families not opened", "Column family not found", "Unknown Footer", "unknown options")


def ours(error: Exception, folder: Path) -> NeardupError:
    """Our error for one that the database in `folder` raised."""
    if isinstance(error, NeardupError):
        return error
    if isinstance(error, DbClosedError):
        return UnavailableError("the store is closed")
    text = str(error)
    message = f"the store in {folder}: {text}"
    for marks, kind in (
        (_FULL, DiskFullError),
        (_LOCKED, LockedError),
        (_OTHER_FORMAT, IncompatibleError),
        (_DAMAGED, CorruptedError),
        (("IO error",), WriteError),
    ):
        if any(mark in text for mark in marks):
            return kind(message)
    return StorageError(message)


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Runs a block that uses the database in `folder`, and raises our errors for those of the library."""
    try:
        yield
    except NeardupError:
        raise
    except Exception as error:  # the library raises bare exceptions
        raise ours(error, folder) from error
