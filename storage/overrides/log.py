"""The file of all overrides, beside the database: appended to and synced, never rewritten.

It lies outside the database, so a database that is built again or restored loses none. A line is one override:

    CRC-32C of the JSON, 8 hexadecimal digits | space | JSON | newline

A last line without its newline was never acknowledged, and is cut off. Any other damage is refused.

After an append that the disk refused nothing is written, also not to the database, until what it has left is cut off.
Else it would come back at the next start, at a position that is long past.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crc32c import crc32c

from core.files import sync_folder
from core.overrides import ChangeFilter, NewImages, Override, OverrideKind, Point, Rollback
from core.types import Cause, ImageId
from storage.errors import CorruptedError, StorageError, as_write_error

__all__ = ["OverrideLog", "line_of"]

_NAME = "overrides.log"


def line_of(override: Override) -> bytes:
    """The line of an override, with its newline."""
    body = json.dumps(asdict(override), separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (crc32c(body), body)


class OverrideLog:
    """The file in the folder of a store."""

    def __init__(self, folder: Path) -> None:
        """Reads the file of the store in a folder. It is made with the first override.

        Raises:
            CorruptedError: A line is damaged, or one is missing.
        """
        self._file = folder / _NAME
        content = self._content()
        self._end = content.rfind(b"\n") + 1
        """The byte after the last whole line."""
        self._lines = content[: self._end].splitlines()
        self._torn = len(content) > self._end
        self._folder_synced = bool(content)

    def overrides(self) -> Iterator[Override]:
        """Those that the file held when it was read, in order; a second call has none.

        Raises:
            CorruptedError: A line is damaged.
        """
        lines, self._lines = self._lines, []
        return (self._parsed(number, line) for number, line in enumerate(lines, start=1))

    def append(self, override: Override) -> None:
        """Adds an override, and syncs.

        Raises:
            WriteError: The disk refuses it; nothing was added.
        """
        self.mend()
        line = line_of(override)
        self._torn = True
        with as_write_error(self._file):
            try:
                self._write(line)
            except OSError:
                with suppress(StorageError):
                    self.mend()
                raise
        self._torn = False
        self._end += len(line)

    def mend(self) -> None:
        """Cuts off what an append has left that the disk refused. Nothing else may be written before.

        Raises:
            WriteError: The disk refuses this too.
        """
        if not self._torn:
            return
        with as_write_error(self._file), self._file.open("ab") as file:
            file.truncate(self._end)
            os.fsync(file.fileno())
        self._torn = False

    def _write(self, line: bytes) -> None:
        with self._file.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if not self._folder_synced:
            sync_folder(self._file.parent)
            self._folder_synced = True

    def _content(self) -> bytes:
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise CorruptedError(f"{self._file} cannot be read: {error.strerror}") from error

    def _parsed(self, number: int, line: bytes) -> Override:
        checksum, _, body = line.partition(b" ")
        try:
            if int(checksum, 16) != crc32c(body):
                raise ValueError("its checksum is wrong")
            override = _override(json.loads(body))
            if override.number != number:
                raise ValueError(f"it has the number {override.number}")
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptedError(f"line {number} of {self._file} is damaged: {error}") from None
        return override


def _override(fields: Mapping[str, Any]) -> Override:
    target = fields["target"]
    return Override(
        number=int(fields["number"]),
        kind=OverrideKind(fields["kind"]),
        images=tuple(ImageId(str(each)) for each in fields["images"]),
        target=None if target is None else ImageId(str(target)),
        undoes=int(fields["undoes"]),
        author=str(fields["author"]),
        reason=str(fields["reason"]),
        at_ms=int(fields["at_ms"]),
        applied_after=int(fields["applied_after"]),
        asked=str(fields["asked"]),
        rollback=_rollback(fields["rollback"]) if fields.get("rollback") else None,
    )


def _rollback(fields: Mapping[str, Any]) -> Rollback:
    where = fields["where"]
    return Rollback(
        to=_point(fields["to"]),
        since=_point(fields["since"]),
        where=ChangeFilter(
            model=None if where["model"] is None else str(where["model"]),
            head=None if where["head"] is None else ImageId(str(where["head"])),
            cause=None if where["cause"] is None else Cause(where["cause"]),
        ),
        new=NewImages(fields["new"]),
        of=int(fields["of"]),
        until=None if fields["until"] is None else _point(fields["until"]),
    )


def _point(numbers: Sequence[int]) -> Point:
    position, override = numbers
    return Point(int(position), int(override))
