"""Reads one value of the store from start to end, and packs its texts. What does not fit means that it is damaged."""

from __future__ import annotations

import struct

from core.types import ImageId
from storage.errors import CorruptedError

__all__ = ["U16", "U32", "Cursor", "packed_blob", "packed_text"]

U16 = struct.Struct(">H")
"""The length before a text."""

U32 = struct.Struct(">I")
"""The length before a blob."""


class Cursor:
    """A position in a value. Every read advances it, or raises `CorruptedError`."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, what: str, data: bytes) -> None:
        self._what = what
        self._data = data
        self._at = 0

    def numbers(self, layout: struct.Struct) -> tuple[int, ...]:
        """The numbers of a fixed layout."""
        start, self._at = self._at, self._at + layout.size
        if self._at > len(self._data):
            raise self.damage("it ends too early")
        return layout.unpack_from(self._data, start)

    def raw(self, length: int) -> bytes:
        """The next `length` bytes."""
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise self.damage("it ends too early")
        return self._data[start : self._at]

    def text(self) -> str:
        """A text after its length."""
        raw = self.raw(self.numbers(U16)[0])
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.damage("a text is not UTF-8") from None

    def id(self) -> ImageId:
        """A text that is an id."""
        text = self.text()
        if not text:
            raise self.damage("an id is empty")
        return ImageId(text)

    def blob(self) -> bytes:
        """Bytes after their length."""
        return self.raw(self.numbers(U32)[0])

    @property
    def left(self) -> int:
        """How many bytes were not read yet."""
        return len(self._data) - self._at

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.raw(len(self._data) - self._at)

    def end(self) -> None:
        """Checks that nothing is left."""
        if self._at != len(self._data):
            raise self.damage(f"{len(self._data) - self._at} bytes are left over")

    def damage(self, how: str) -> CorruptedError:
        """The error that says which value is damaged, and how."""
        return CorruptedError(f"{self._what} is damaged: {how}")


def packed_text(text: str) -> bytes:
    """A text as UTF-8, after its length."""
    encoded = text.encode()
    return U16.pack(len(encoded)) + encoded


def packed_blob(data: bytes) -> bytes:
    """Bytes after their length."""
    return U32.pack(len(data)) + data
