"""A topic that is a file: it outlives the processes that write and read it. What is cut at its end is no record."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from core.errors import UnavailableError
from storage.serving.assignments import Message
from storage.serving.topic_loss import TopicView

__all__ = ["FileSender", "read_topic"]

_LENGTH = struct.Struct("<I")


class FileSender:
    """A `storage.serving.sender.Sender`."""

    def __init__(self, path: Path) -> None:
        """Cuts what a killed writer has left behind the last whole record."""
        self._path = path
        path.touch()
        os.truncate(path, sum(_LENGTH.size + len(value) for value in read_topic(path)))
        self._records = sum(1 for _ in read_topic(path))

    def look(self) -> AbstractContextManager[TopicView]:
        """See `Sender.look`."""
        raise UnavailableError("nobody looks at this topic")

    def send(self, messages: Sequence[Message], stopping: Callable[[], bool]) -> Sequence[int]:
        """See `Sender.send`."""
        with self._path.open("ab", buffering=0) as file:
            for each in messages:  # one by one, so that a kill leaves some of them
                file.write(_LENGTH.pack(len(each.value)) + each.value)
        first, self._records = self._records, self._records + len(messages)
        return range(first, self._records)

    def close(self) -> None:
        """There is nothing to close."""


def read_topic(path: Path) -> Iterator[bytes]:
    """The values of all whole records."""
    data, at = path.read_bytes() if path.exists() else b"", 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        value = data[at + _LENGTH.size : at + _LENGTH.size + length]
        if len(value) < length:
            return
        yield value
        at += _LENGTH.size + length
