"""The errors of storage, under the root of `core.errors`, and what the operator should do about each.

    NeardupError
    └── StorageError
        ├── ContradictionError   a decision does not fit what the store holds: nothing was written
        ├── CorruptedError       bytes on disk are not what was written
        ├── IncompatibleError    the store was made with another format or for another signal
        ├── LockedError          another process has the store open
        └── WriteError           the disk did not take a write: nothing was written, try again
            └── DiskFullError        because it is full

A server turns a `WriteError` into `core.errors.UnavailableError`: the stream waits and calls again, for ever.
"""

from __future__ import annotations

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
]


class StorageError(NeardupError):
    """Something about the store; the message ends with the advice of its kind."""

    advice: ClassVar[str] = "see the log of the storage server"
    """What the operator should do next."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} ({self.advice})")


class ContradictionError(StorageError):
    """A decision does not fit what the store holds; nothing was written."""

    advice = "nothing was written; check the store with `neardup verify` and report the decision as a bug"


class CorruptedError(StorageError):
    """Bytes on disk are not what was written."""

    advice = "stop the server, keep the folder for inspection, and restore a snapshot or load the store anew"


class IncompatibleError(StorageError):
    """The store was made with another format or for another signal; the message carries both values."""

    advice = "point the server at the right folder, or load the store anew"


class LockedError(StorageError):
    """Another process has the store open."""

    advice = "stop the other storage server; one folder has one writer"


class WriteError(StorageError):
    """The disk did not take a write; nothing was half-written, and the same write may succeed later."""

    advice = "nothing was half-written; check the disk, the stream goes on by itself"


class DiskFullError(WriteError):
    """The disk, a quota or a limit on file sizes is exhausted."""

    advice = "nothing was half-written; free some space, the stream goes on by itself"
