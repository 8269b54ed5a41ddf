"""From records on the wire to records of the index: every value is checked, then hashed in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import RefusedError
from search.index.interface import Insert, Record, Skip
from search.notifications import MAX_ID_BYTES
from search.projection import Hyperplanes
from search.protos.events_pb2 import FLOAT16, FLOAT32
from search.serving.search_pb2 import LogEntry
from search.terms import TermExtractor
from search.types import ImageId

__all__ = ["SearchIntake"]

_DTYPES: dict[int, np.dtype[Any]] = {FLOAT16: np.dtype("<f2"), FLOAT32: np.dtype("<f4")}


class SearchIntake:
    """Checks and hashes what one signal's stream brings."""

    def __init__(self, extractor: TermExtractor, hyperplanes: Hyperplanes) -> None:
        """Takes the projections of the search and the score embedding."""
        self.extractor = extractor
        self.hyperplanes = hyperplanes

    def records(self, entries: Sequence[LogEntry]) -> list[Record]:
        """The records of entries, in order.

        Raises:
            RefusedError: An entry is wrong; `offset` names the first such.
        """
        inserts = [entry for entry in entries if self._check(entry)]
        search = self._vectors(inserts, lambda entry: (entry.insert.search_type, entry.insert.search_vector))
        score = self._vectors(inserts, lambda entry: (entry.insert.score_type, entry.insert.score_vector))
        hashed: dict[int, tuple[NDArray[np.uint32], bytes]] = {}
        if inserts:
            terms = self.extractor.terms(search)
            codes = self.hyperplanes.codes(score)
            hashed = {entry.offset: (terms[row], codes[row].tobytes()) for row, entry in enumerate(inserts)}
        return [_record(entry, hashed) for entry in entries]

    def warm_up(self) -> None:
        """Runs both projections once."""
        self.extractor.terms(np.ones((1, self.extractor.settings.dimension), np.float32))
        self.hyperplanes.codes(np.ones((1, self.hyperplanes.dimension), np.float32))

    def _check(self, entry: LogEntry) -> bool:
        """Whether the entry is an insert.

        Raises:
            RefusedError: It is neither a valid insert nor a skip.
        """
        match entry.WhichOneof("action"):
            case "skip":
                if len(entry.skip.image_id.encode()) > MAX_ID_BYTES:
                    raise _refused(entry, f"the skipped image's id has more than {MAX_ID_BYTES} bytes")
                return False
            case "insert":
                image = entry.insert
                if not 1 <= len(image.image_id.encode()) <= MAX_ID_BYTES:
                    raise _refused(entry, f"an image id has 1 to {MAX_ID_BYTES} bytes")
                _check_vector(
                    entry, "search", image.search_type, image.search_vector, self.extractor.settings.dimension
                )
                _check_vector(entry, "score", image.score_type, image.score_vector, self.hyperplanes.dimension)
                return True
            case _:
                raise _refused(entry, "the entry neither inserts nor skips")

    @staticmethod
    def _vectors(
        inserts: Sequence[LogEntry], field: Callable[[LogEntry], tuple[int, bytes]]
    ) -> list[NDArray[np.floating[Any]]]:
        parts = (field(entry) for entry in inserts)
        return [np.frombuffer(vector, _DTYPES[kind]).astype(np.float32) for kind, vector in parts]


def _check_vector(entry: LogEntry, name: str, kind: int, vector: bytes, dimension: int) -> None:
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise _refused(entry, f"the {name} vector has the unknown element type {kind}")
    if len(vector) != dimension * dtype.itemsize:
        raise _refused(
            entry,
            f"the {name} vector has {len(vector)} bytes, {dimension} elements of {dtype.name} have "
            f"{dimension * dtype.itemsize}",
        )
    values = np.frombuffer(vector, dtype)
    if not np.isfinite(values).all():
        raise _refused(entry, f"the {name} vector holds a value that is not finite")
    if not values.any():
        raise _refused(entry, f"the {name} vector is all zero")


def _refused(entry: LogEntry, message: str) -> RefusedError:
    return RefusedError(f"offset {entry.offset}: {message}", entry.offset)


def _record(entry: LogEntry, hashed: dict[int, tuple[NDArray[np.uint32], bytes]]) -> Record:
    if entry.WhichOneof("action") == "skip":
        return Skip(entry.offset, entry.checksum, ImageId(entry.skip.image_id), entry.skip.image_version)
    terms, code = hashed[entry.offset]
    image = entry.insert
    return Insert(entry.offset, entry.checksum, ImageId(image.image_id), image.image_version, terms, code)
