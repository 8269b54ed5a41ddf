"""The errors of storage, below the root of `core.errors`, and what the operator should do about each.

    NeardupError
    └── StorageError
        ├── ContradictionError   a decision does not fit what the store holds: nothing was written
        ├── CorruptedError       bytes on disk differ from what was written
        ├── IncompatibleError    the store was made with another format or for another signal
        ├── LockedError          another process has the store open
        └── WriteError           the disk refused a write: nothing was written, try again
            └── DiskFullError        because it is full

The server turns a `WriteError` into `core.errors.UnavailableError`, so the stream waits and calls again, without limit.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from core.errors import NeardupError

__all__ = [
    "ContradictionError",
    "CorruptedError",
    "DiskFullError",
    "IncompatibleError",
    "LockedError",
    "StorageError",
    "WriteError",
    "as_write_error",
]


class StorageError(NeardupError):
    """An error of the store. Its message ends with the advice of its class."""

    advice: ClassVar[str] = "see the log of the storage server"
    """What the operator should do."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} ({self.advice})")


class ContradictionError(StorageError):
    """A decision does not fit what the store holds; nothing was written."""

    advice = "nothing was written; check the store with `neardup verify` and report the decision as a bug"


class CorruptedError(StorageError):
    """Bytes on disk differ from what was written."""

    advice = "stop the server, keep the folder for inspection, and restore a snapshot or load the store again"


class IncompatibleError(StorageError):
    """The store was made with another format or for another signal; the message carries both values."""

    advice = "point the server at the right folder; if only the score codes have changed, run `neardup store convert`"


class LockedError(StorageError):
    """Another process has the store open."""

    advice = "stop the other storage server; one folder has one writer"


class WriteError(StorageError):
    """The disk refused a write. Nothing was half-written, and the same write may succeed later."""

    advice = "nothing was half-written; check the disk, the stream resumes by itself"


class DiskFullError(WriteError):
    """The disk, a quota, or a limit on file sizes is exhausted."""

    advice = "nothing was half-written; free some space, the stream resumes by itself"


@contextmanager
def as_write_error(path: Path) -> Iterator[None]:
    """Errors of the operating system as errors of the store in a folder, or of a file of it."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (DiskFullError if full else WriteError)(f"{path}: {error.strerror}") from error
