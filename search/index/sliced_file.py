"""A file that is written once, slice by slice, so that writing it holds up nobody else's small writes.

A file of hundreds of megabytes that is forced to the disk at its end keeps the disk busy for seconds, and whoever syncs
a few bytes meanwhile waits behind it. So its blocks are reserved first (a full disk shows before anything is written),
each slice is sent on its way as soon as it is complete, and the one before it is waited for. What the last sync then
has to do is little.
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
"""Bytes that are on their way to the disk at a time."""

_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE)
"""What a file system says that has no such call."""

_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4
"""Flags of Linux's sync_file_range."""


class SlicedFile:
    """Writes a file under another name; leaving the block gives it its own, or removes what an error left."""

    def __init__(self, path: Path, size: int, sync: bool, limiter: RateLimiter | None) -> None:
        """Makes the file with room for so many bytes.

        Args:
            path: Its name; until it is whole it has ".tmp" behind it.
            size: How long it will be.
            sync: Whether it must survive a crash of the machine from the end of the block on.
            limiter: How fast it is written; None: as fast as can be.

        Raises:
            OSError: There is no room.
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
        """Makes the file what it was meant to be."""
        if error is not None:
            self._give_up()
            return
        try:
            os.ftruncate(self._file, self._size)
            if self._sync:
                os.fsync(self._file)
            self._temporary.replace(self._path)
        except BaseException:
            self._give_up()
            raise
        os.close(self._file)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Writes bytes behind all that was written before; in between there are zeros."""
        rest = memoryview(data)
        self._at = offset
        while rest:
            written = os.pwrite(self._file, rest[:SLICE_BYTES], self._at)
            self._at, rest = self._at + written, rest[written:]
            while self._at - self._sent >= SLICE_BYTES:
                self._send()

    def _send(self) -> None:
        """Sends the next slice on its way, and waits for the one before it."""
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
    """Gives a file its blocks, where the file system can do that; elsewhere a full disk shows while it is written."""
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
    """Linux's sync_file_range; elsewhere, and on file systems that know no such thing, the sync at the end does all."""
    if _SYNC_RANGE is None or _SYNC_RANGE(file, offset, length, flags) == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNKNOWN:
        # Whoever hears of an error of writing back is the last one to: the sync at the end would not know of it.
        raise OSError(number, os.strerror(number))
