"""Reading ahead: a thread takes the next items while the caller is busy with the last ones."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")

_LOOK_S = 0.1
"""Seconds between two looks whether the caller still wants items."""


class _End:
    """What follows the last item: how the reading ended."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def ahead(items: Iterator[T], most: int) -> Generator[T, None, None]:
    """The same items, of which at most `most` are read before they are asked for.

    Close the iterator, or read it to its end: then the thread has ended. It raises what reading raises.
    """
    queue: Queue[T | _End] = Queue(most)
    unwanted = threading.Event()

    def put(item: T | _End) -> None:
        while not unwanted.is_set():
            with suppress(Full):
                queue.put(item, timeout=_LOOK_S)
                return

    def read() -> None:
        try:
            for item in items:
                put(item)
                if unwanted.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are read
            put(_End(error))
        else:
            put(_End(None))

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        while True:
            item = queue.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        unwanted.set()
        with suppress(Empty):
            queue.get_nowait()  # so that the thread need not wait for room
        reader.join()
