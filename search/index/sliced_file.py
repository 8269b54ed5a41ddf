"""A file that is written once, slice by slice, so that it does not delay the small writes of others.

Syncing a file of hundreds of megabytes at its end keeps the disk busy for seconds, and a sync of a few bytes waits
behind it. So the blocks are reserved first, which shows a full disk before anything is written. Then the write-back of
each slice is started when the slice is complete, and awaited with the next one. Little is left for the last sync.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from search.index.rate_limiter import RateLimiter

__all__ = ["SLICE_BYTES", "SlicedFile"]

SLICE_BYTES = 2**20
"""Bytes of one slice."""

_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE)
"""The errors of a file system that lacks a call."""

_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
"""Flags of Linux's sync_file_range."""


class SlicedFile:
    """Writes a file under a temporary name. Leaving the block renames it, or removes it after an error."""

    def __init__(self, path: Path, size: int, sync: bool, limiter: RateLimiter | None) -> None:
        """Makes the file and reserves its blocks.

        Args:
            path: The final name; until the file is complete, ".tmp" follows it.
            size: The final size in bytes.
            sync: Whether the file must survive a crash of the machine after the block.
            limiter: Limits the rate of writing; None: no limit.

        Raises:
            OSError: The disk is full.
        """
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._size = size
        self._sync = sync
        self._limiter = limiter
        self._at = 0
        self._sent = 0
        self._file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if sync and size:
                _reserve(self._file, size)
        except OSError:
            self._give_up()
            raise

    def __enter__(self) -> SlicedFile:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Syncs and renames the file, or removes it after an error."""
        if error is not None:
            self._give_up()
            return
        try:
            os.ftruncate(self._file, self._size)
            if self._sync:
                os.fsync(self._file)
            self._temporary.replace(self._path)
        except BaseException:  # also an interrupt must leave no temporary file
            self._give_up()
            raise
        os.close(self._file)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Writes bytes after everything written before; a gap is filled with zeros."""
        rest = memoryview(data)
        self._at = offset
        while rest:
            written = os.pwrite(self._file, rest[:SLICE_BYTES], self._at)
            self._at, rest = self._at + written, rest[written:]
            while self._at - self._sent >= SLICE_BYTES:
                self._send()

    def _send(self) -> None:
        """Starts the write-back of the next slice, and waits for the one before it."""
        if self._sync:
            _sync_range(self._file, self._sent, SLICE_BYTES, _WRITE)
            if self._sent:
                before = self._sent - SLICE_BYTES
                _sync_range(self._file, before, SLICE_BYTES, _WAIT_BEFORE | _WRITE | _WAIT_AFTER)
        self._sent += SLICE_BYTES
        if self._limiter is not None:
            self._limiter.spend(SLICE_BYTES)

    def _give_up(self) -> None:
        os.close(self._file)
        self._temporary.unlink(missing_ok=True)


def _reserve(file: int, size: int) -> None:
    """Reserves the blocks of a file if the file system can; if not, a full disk shows during writing."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _find_sync_range() -> Callable[[int, int, int, int], int] | None:
    try:
        found: Any = ctypes.CDLL(None, use_errno=True).sync_file_range
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return found  # type: ignore[no-any-return]


_SYNC_RANGE = _find_sync_range()


def _sync_range(file: int, offset: int, length: int, flags: int) -> None:
    """Linux's sync_file_range; where it is missing, the sync at the end does all the work."""
    if _SYNC_RANGE is None or _SYNC_RANGE(file, offset, length, flags) == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNKNOWN:
        # The kernel reports a write-back error only once, so the sync at the end would not see it.
        raise OSError(number, os.strerror(number))
