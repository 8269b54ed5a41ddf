"""Reading images with their two embeddings from a Parquet file, a batch of rows at a time.

| column | type | |
| --- | --- | --- |
| `image_id` | string, or a dictionary of strings | required |
| `search` | list or fixed-size list of float16 or float32 | required, as long as the signal's search embedding |
| `score` | the same | required, as long as the signal's score embedding |
| `image_version` | whole number, 0 to 2^53 - 1 | 1 where it is missing or null |
| `created_at` | timestamp (UTC without a zone) or whole ms since the epoch | unknown where missing or null |
| `place` | whole number, 0 or more | required where an index is built; not read otherwise |

Other columns are not read. Whether the numbers make sense (finite, not all zero) is checked by the stream, as for any
other producer; a row that fails lands in `dead-letter`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.notifications import LATEST_TIME_MS, MAX_IMAGE_VERSION
from manifests.columns import ColumnFile, Found
from neardup.events_pb2 import FLOAT16, FLOAT32, ElementType

__all__ = ["NO_PLACE", "ImageBatch", "ImageFile", "ImageRow", "Vector", "versions_of"]

_BATCH_ROWS = 256
"""Rows held at once: about 1 MB of the sample's embeddings."""

_DEFAULT_VERSION = 1

NO_PLACE = -1
"""The place of a row of a file that was opened without places."""

_COLUMNS = ("image_id", "search", "score", "image_version", "created_at", "place")
"""All columns that are read."""

_BEFORE_1970 = ": a notification has no times before 1970, so leave it null"


@dataclass(frozen=True, slots=True)
class Vector:
    """One embedding as it travels: little-endian numbers of one type."""

    element_type: ElementType.ValueType
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One version of one image with both embeddings; `created_at_ms` is 0 where it is not known."""

    image_id: str
    version: int
    created_at_ms: int
    search: Vector
    score: Vector
    place: int = NO_PLACE
    """The image version's place in the order, where the file was opened with places."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageBatch:
    """n rows of a file, column by column."""

    first: int
    """The number of the first of them in the file."""
    image_ids: list[str]
    versions: NDArray[np.int64]
    """(n,)"""
    created_at_ms: NDArray[np.int64]
    """(n,) 0 where it is not known."""
    search: NDArray[Any]
    """(n, dimension) float16 or float32."""
    score: NDArray[Any]
    """(n, dimension) float16 or float32."""
    places: NDArray[np.int64]
    """(n,) `NO_PLACE` where the file was opened without places."""

    def rows(self) -> Iterator[ImageRow]:
        """One by one."""
        columns = self.versions.tolist(), self.created_at_ms.tolist(), _vectors(self.search), _vectors(self.score)
        for each in zip(self.image_ids, *columns, self.places.tolist(), strict=True):
            yield ImageRow(*each)


class ImageFile:
    """A Parquet file of images. Iterating reads it from the start, in constant memory."""

    def __init__(self, path: Path, search_dimension: int, score_dimension: int, *, with_places: bool = False) -> None:
        """Opens the file and checks its columns.

        Args:
            path: The file.
            search_dimension: Of the search embedding.
            score_dimension: Of the score embedding.
            with_places: Whether the file must have a column `place`.

        Raises:
            BadInputError: It is no Parquet file, or a column is missing or of another type or dimension.
        """
        self.path = path
        self.file = file = ColumnFile(path)
        self.rows = file.rows
        file.check_once(_COLUMNS)
        file.check_texts("image_id")
        self._search = file.vector_column("search", search_dimension)
        self._score = file.vector_column("score", score_dimension)
        if "image_version" in file.names:
            file.check_whole_numbers("image_version")
        if "created_at" in file.names:
            file.check_times("created_at")
        if with_places:
            file.check_whole_numbers("place")
        wanted = _COLUMNS if with_places else _COLUMNS[:-1]
        self.columns = [name for name in wanted if name in file.names]

    def __iter__(self) -> Iterator[ImageRow]:
        """Every row, in the file's order. Raises as `rows_from`."""
        return self.rows_from(0)

    def rows_from(self, start: int) -> Iterator[ImageRow]:
        """The rows from number `start` on, in the file's order. What is wrong with earlier rows does not matter.

        Raises:
            BadInputError: A row has no id, or a vector that is missing or of another dimension; the message names it.
        """
        for found in self.file.read(self.columns, _BATCH_ROWS, start):
            try:
                batch = self.batch(found)
            except BadInputError:
                for one in found.one_by_one():
                    yield from self.batch(one).rows()
                raise
            yield from batch.rows()

    def batch(self, found: Found) -> ImageBatch:
        """The images of some rows of this file, of which at least `columns` were read.

        Raises:
            BadInputError: As `rows_from`.
        """
        ids = found.texts("image_id")
        versions = versions_of(found)
        created = found.numbers("created_at", 0, LATEST_TIME_MS, _BEFORE_1970)
        search, score = self.vectors(found)
        if "place" in self.columns:
            found.check_no_null("place")
            places = found.numbers("place", NO_PLACE, 2**63 - 1)
        else:
            places = np.full(len(found), NO_PLACE, np.int64)
        return ImageBatch(found.rows.first, ids, versions, created, search, score, places)

    def vectors(self, found: Found) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both embeddings (n, dimension) of some rows, float16 or float32. Raises as `rows_from`."""
        return found.vectors(self._search), found.vectors(self._score)

    def last_place(self) -> int:
        """The highest place, of a file that was opened with places; `NO_PLACE` for a file without rows.

        Raises:
            BadInputError: The column cannot be read.
        """
        highest = NO_PLACE
        for found in self.file.read(["place"], 2**16):
            highest = max(highest, int(found.numbers("place", NO_PLACE, 2**63 - 1).max()))
        return highest


def versions_of(found: Found) -> NDArray[np.int64]:
    """(rows,) the versions of images.

    Raises:
        BadInputError: One is negative or too high.
    """
    return found.numbers("image_version", _DEFAULT_VERSION, MAX_IMAGE_VERSION)


def _vectors(matrix: NDArray[Any]) -> Iterator[Vector]:
    element_type = FLOAT16 if matrix.dtype.itemsize == 2 else FLOAT32
    for row in matrix:
        yield Vector(element_type, row.tobytes())
