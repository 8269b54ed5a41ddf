"""Filling an empty index with rows, through the same call by which the job fills it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from search.errors import BadInputError
from search.index.interface import Insert, Record, Skip
from search.index.opening import open_term_index
from search.index.settings import IndexSettings
from search.types import ImageId, LogPosition
from stream.index_build.rows import IndexRows

__all__ = ["fill"]

BATCH = 1024
"""Records of one call."""


def fill(folder: Path, settings: IndexSettings, rows: Iterable[IndexRows], position: LogPosition) -> None:
    """Makes an index that stands at `position`, with these rows and nothing at the places between them.

    Args:
        folder: A new one.
        settings: What the index is told.
        rows: In order of place, none beyond the position.
        position: The last record of the order that the rows cover.

    Raises:
        BadInputError: A place lies beyond the position.
        UnavailableError: The disk does not take it.
    """
    index = open_term_index(folder, settings)
    try:
        records = _records(rows, position)
        while batch := list(islice(records, BATCH)):
            index.insert_and_search(position.log_id, batch)
    finally:
        index.close()


def _records(rows: Iterable[IndexRows], position: LogPosition) -> Iterator[Record]:
    following = 0
    for batch in rows:
        for row, place in enumerate(batch.places.tolist()):
            if place > position.offset:
                raise BadInputError(f"an image has place {place}, the embeddings go up to offset {position.offset}")
            for offset in range(following, place):
                yield Skip(offset, _checksum(offset, position), ImageId(""), 0)
            yield _record(batch, row, place, _checksum(place, position))
            following = place + 1
    for offset in range(following, position.offset + 1):
        yield Skip(offset, _checksum(offset, position), ImageId(""), 0)


def _record(batch: IndexRows, row: int, place: int, checksum: int) -> Record:
    image_id, version = batch.image_ids[row], batch.versions[row]
    if not batch.findable[row]:
        return Skip(place, checksum, image_id, version)
    return Insert(place, checksum, image_id, version, batch.terms[row], batch.codes[row].tobytes())


def _checksum(offset: int, position: LogPosition) -> int:
    """Only that of the last record is ever compared; the bytes of the others nobody has."""
    return position.checksum if offset == position.offset else 0
