"""What the rows of a manifest become in a store: keys and values of each family. Pure.

images       the row, unless a later one takes its place; its sequence is the number of its history entry
edges        the same
history      one entry, with the trigger `manifest` and the row's place as its offset
history_of   the same
embeddings   at the row's place
founding     under the image, the code that its cluster begins with, of each row that names itself, or says a founding
             code; also of rows that a later one takes the place of: a new version of a head changes no founding code
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.types import ImageId, Trigger
from core.vectors import sound_rows, stored_problem
from manifests.clustered_files import ClusteredBatch
from manifests.columns import Places
from manifests.rows import NumberedBatch
from storage import codec
from storage.cursor import U16, U32, packed_text

__all__ = ["ASCENDING", "FOUNDING", "Codes", "LoadedRows", "MakeCodes", "RowWriter"]

Codes = NDArray[np.uint8]
"""(n, bytes of a code)"""

MakeCodes = Callable[[NDArray[np.float32], NDArray[np.float32]], Codes]
"""Makes n codes from the search vectors (n, dimension) and the score vectors (n, dimension)."""

FOUNDING = "founding"
"""The family that only a load has: it goes once the clusters are made."""

ASCENDING = ("embeddings", "history")
"""The families whose keys ascend with the rows."""

Pair = tuple[bytes, bytes]
"""Key and value."""


@dataclass(slots=True)
class LoadedRows:
    """Some rows as keys and values."""

    rows: int = 0
    numbers: int = 0
    """History entries."""
    pairs: dict[str, list[Pair]] = field(
        default_factory=lambda: {name: [] for name in ("images", "edges", "history_of", FOUNDING, *ASCENDING)}
    )
    """By family, each in the order of the rows."""


@dataclass(frozen=True, slots=True)
class RowWriter:
    """Makes keys and values of one load."""

    at_ms: int
    """When all images were decided and arrived, in milliseconds since the epoch."""
    make_codes: MakeCodes
    superseded: NDArray[np.int64]
    """The rows that a later one of the same image takes the place of, ascending."""

    def written(self, numbered: NumberedBatch, number: int) -> LoadedRows:
        """What some rows become.

        Args:
            numbered: The rows.
            number: Of the last history entry before them.

        Raises:
            BadInputError: A row cannot be stored; the message names it.
        """
        batch, first = numbered.batch, numbered.first
        names = Places(numbered.file.path, batch.images.first)
        codes = self._checked_codes(batch, names)
        blobs = _blobs(codes, batch.images.search, batch.images.score)
        own_codes = _rows_of(codes)
        versions = packed_text(numbered.file.metadata.model) + packed_text("")
        replaced = _between(self.superseded, first, first + len(codes))
        found = LoadedRows(rows=len(codes))
        images, edges, history, history_of, embeddings, founding = (
            found.pairs[name] for name in ("images", "edges", "history", "history_of", "embeddings", FOUNDING)
        )
        at_ms, image_numbers, history_numbers = self.at_ms, codec.IMAGE_NUMBERS.pack, codec.HISTORY_NUMBERS.pack
        verdict_numbers, number_bytes = codec.VERDICT_NUMBERS.pack, codec.encode_number
        rows = zip(
            batch.images.image_ids,
            batch.images.versions.tolist(),
            batch.images.created_at_ms.tolist(),
            batch.heads,
            batch.causes,
            batch.scores.tolist(),
            batch.matched,
            strict=True,
        )
        # The values are packed here as `storage.codec` packs those of records, without making the records: with them a
        # row takes three times as long. A test compares both.
        for row, (image_id, version, created, head, cause, probability, matched) in enumerate(rows):
            place = first + row
            key, mine = _keys(names, row, "image_id", image_id)
            is_head = head == image_id
            founded = batch.founding_codes[row]
            if is_head or (head is None and founded is not None):
                founding.append((mine + number_bytes(place), own_codes[row] if founded is None else founded))
            if place in replaced:
                continue
            number += 1
            sequence = number_bytes(number)
            theirs = mine if is_head else _keys(names, row, "head", head)[1]
            if matched is None:
                texts = versions
            else:
                texts = (theirs if matched == head else _keys(names, row, "matched", matched)[1]) + versions
            score = None if probability != probability else probability
            flags, by = codec.verdict_flags(score, matched), codec.CAUSE_NUMBERS[cause]
            numbers = at_ms, created, at_ms, by
            images.append(
                (
                    key,
                    image_numbers(version, place, number)
                    + theirs
                    + verdict_numbers(*numbers, flags, score or 0.0)
                    + texts,
                )
            )
            history.append(
                (
                    sequence,
                    history_numbers(version, place, place, *numbers, flags | _LOADED, score or 0.0)
                    + mine
                    + theirs
                    + texts,
                )
            )
            edges.append((theirs + sequence, key))
            history_of.append((mine + sequence, b""))
            embeddings.append((codec.place_key(place), number_bytes(version) + mine + blobs[row]))
        found.numbers = len(images)
        return found

    def _checked_codes(self, batch: ClusteredBatch, names: Places) -> Codes:
        """Checks the vectors, and makes the codes if the file has none."""
        search, score = batch.images.search, batch.images.score
        for name, matrix in (("search", search), ("score", score)):
            for row in np.flatnonzero(~sound_rows(matrix)).tolist():
                problem = stored_problem(name, matrix[row].tobytes(), matrix.shape[1])
                assert problem is not None
                raise names.error(row, name, f"cannot be searched or scored: {problem.detail}")
        if batch.codes is not None:
            return batch.codes
        return self.make_codes(search.astype(np.float32), score.astype(np.float32))


_LOADED = codec.TRIGGER_FLAGS[Trigger.MANIFEST]


def _keys(names: Places, row: int, column: str, image_id: str) -> tuple[bytes, bytes]:
    """The bytes of an id, and those with their length before them."""
    try:
        key = codec.image_key(ImageId(image_id))
    except BadInputError as error:
        raise names.error(row, column, f"is no id: {error}") from None
    return key, U16.pack(len(key)) + key


def _blobs(*parts: NDArray[Any]) -> list[bytes]:
    """What each row has in all parts, each with its length before it."""
    columns = []
    for part in parts:
        bytes_of = np.ascontiguousarray(part).view(np.uint8)
        length = np.frombuffer(U32.pack(bytes_of.shape[1]), np.uint8)
        columns += [np.broadcast_to(length, (len(part), len(length))), bytes_of]
    return _rows_of(np.concatenate(columns, axis=1))


def _rows_of(matrix: NDArray[Any]) -> list[bytes]:
    """The bytes of each row."""
    data, width = matrix.tobytes(), matrix.shape[1] * matrix.itemsize
    return [data[at : at + width] for at in range(0, len(data), width)]


def _between(ascending: NDArray[np.int64], first: int, end: int) -> set[int]:
    """Those numbers from one on and before another."""
    low, high = np.searchsorted(ascending, [first, end])
    return set(ascending[low:high].tolist())
