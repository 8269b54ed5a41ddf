"""Image ids in a temporary file: a selection of any size, read once from storage, that fits into no memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from types import TracebackType

from core.types import ImageId

__all__ = ["IdSpool"]


class IdSpool:
    """Ids in the order in which they were added. Use it as a context manager; the file is gone afterwards."""

    def __init__(self) -> None:
        """Makes the file."""
        self._file = TemporaryFile("w+", encoding="ascii")  # noqa: SIM115 - it is closed in `__exit__`
        self._count = 0

    def __enter__(self) -> IdSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        """How many ids it has."""
        return self._count

    def add(self, ids: Iterable[ImageId]) -> None:
        """Appends ids."""
        for image_id in ids:
            # An id may hold line breaks, JSON does not.
            self._file.write(f"{json.dumps(image_id)}\n")
            self._count += 1

    def pages(self, size: int) -> Iterator[list[ImageId]]:
        """The ids, so many at a time. None may be added meanwhile."""
        self._file.seek(0)
        page: list[ImageId] = []
        for line in self._file:
            page.append(ImageId(json.loads(line)))
            if len(page) == size:
                yield page
                page = []
        if page:
            yield page
