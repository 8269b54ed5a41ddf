"""An append-only file of frames: acknowledged means synced, a torn end is cut off, a damaged middle is an error.

One writer appends one frame at a time and syncs it before the next, so a crash can only tear the last frame. Damage
with intact frames after it, in this or a later log, has another cause, and going on would lose acknowledged records.
Without sync, a crash of the machine can cause it; the later frames then depend on lost ones.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from core.errors import UnavailableError
from search.index.errors import IndexDamagedError
from search.index.frames import HEADER_BYTES, find_intact_frame, is_intact, read_header

__all__ = ["FrameLog"]

log = logging.getLogger(__name__)

_ROOM_BYTES = 2**20
"""A synced log grows by so many zeros at a time. An append into them does not change the length of the file, so its
sync need not write the file system's journal (99th percentile on ext4: 1.0 ms instead of 2.1)."""


class FrameLog:
    """One log file. Not for several threads at once."""

    def __init__(self, path: Path, sync: bool = True) -> None:
        """Opens an existing file; `replay` must run to its end before the first `append`.

        Args:
            path: The file.
            sync: Whether an append waits for the disk. Without it, a crash of the machine (not of the process) may
                lose or damage acknowledged records.

        Raises:
            IndexDamagedError: The file is missing.
        """
        self.path = path
        self._sync = sync
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise IndexDamagedError(
                f"the index log {path} is missing: restore the folder, or build the index again"
            ) from error
        self._size = 0
        """Where the intact frames end."""
        self._end = 0
        """Where the file ends; there are zeros between `_size` and here."""
        self._dirty = False
        """Whether a half-written frame may lie after `_size`."""

    @property
    def size(self) -> int:
        """Bytes of all intact frames."""
        return self._size

    def replay(self, whole: bool = False) -> Iterator[bytes]:
        """All frames, in order; a torn end is cut off the file.

        Args:
            whole: Later logs follow, so this one must not have a torn end.

        Raises:
            IndexDamagedError: A frame is damaged and others follow. The file is not changed.
        """
        with self.path.open("rb", buffering=2**20) as file:
            end = os.fstat(file.fileno()).st_size
            while self._size < end:
                file.seek(self._size)
                frame = file.read(HEADER_BYTES)
                header = read_header(frame)
                if header is not None and self._size + header.frame_bytes <= end:
                    file.seek(self._size)
                    frame = file.read(header.frame_bytes)
                if not is_intact(frame):
                    self._end_at(end, whole)
                    break
                self._size += len(frame)
                yield frame
        # What a killed process wrote may not be on disk yet; from here on it counts as acknowledged.
        os.fsync(self._file)

    def append(self, frame: bytes) -> None:
        """Adds a frame; it survives a crash once this returns.

        Raises:
            UnavailableError: It could not be written, because the disk is full for example. The file keeps its frames.
        """
        try:
            if self._dirty:
                self._cut_back()
            self._dirty = True
            self._write(frame)
        except OSError as error:
            self._try_cut_back()
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}", retry_after_s=1.0) from error
        self._size += len(frame)
        self._dirty = False

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _write(self, frame: bytes) -> None:
        longer = self._sync and self._size + len(frame) > self._end
        at, rest = self._size, memoryview(frame + bytes(_ROOM_BYTES) if longer else frame)
        while rest:
            written = os.pwrite(self._file, rest, at)
            at, rest = at + written, rest[written:]
        if self._sync:
            os.fdatasync(self._file)
        self._end = max(self._end, at)

    def _cut_back(self) -> None:
        os.ftruncate(self._file, self._size)
        os.fsync(self._file)
        self._end = self._size
        self._dirty = False

    def _try_cut_back(self) -> None:
        try:
            self._cut_back()
        except OSError as error:
            log.warning("%s keeps a half-written frame until the next write: %s", self.path, error.strerror)

    def _end_at(self, end: int, whole: bool) -> None:
        """Handles a file that goes on after its last intact frame: with zeros, or with a torn frame that is cut off."""
        tail = os.pread(self._file, end - self._size, self._size)
        if tail.count(0) == len(tail):
            self._end = end
            return
        header = read_header(tail)
        # Within a damaged frame there is nothing to find but bytes of its payload, which strangers chose.
        later = find_intact_frame(tail, header.frame_bytes if header is not None and header.trusted else 1)
        if later is not None:
            raise IndexDamagedError(
                f"{self.path} is damaged at byte {self._size} (intact again from byte {self._size + later}): "
                "restore the folder from a copy, or delete it and build the index again"
            )
        if whole:
            raise IndexDamagedError(
                f"{self.path} is damaged from byte {self._size} to its end, byte {end}, and later logs follow. A crash "
                "of the machine can do that only if `sync` is off. Restore the folder from a copy, or delete it and "
                "build the index again"
            )
        self._cut_back()
        log.warning("%s: cut off a torn frame of %d bytes at byte %d", self.path, end - self._size, self._size)
