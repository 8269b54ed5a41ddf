"""From records on the wire to records of the index: every value is checked, then all are hashed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, RefusedError
from core.notifications import MAX_ID_BYTES
from core.types import ImageId
from core.vectors import vector_problem, vector_values
from search.hashing.score_codes import ScoreCodes
from search.hashing.terms import TermExtractor
from search.index.interface import Insert, Record, Remove, Skip
from search.serving.search_pb2 import LogEntry, Vector

__all__ = ["RequestParser"]


class RequestParser:
    """Checks and hashes the requests of one signal."""

    def __init__(self, extractor: TermExtractor, coder: ScoreCodes) -> None:
        """Takes the projections of the search and the score embedding."""
        self.extractor = extractor
        self.coder = coder

    def records(self, entries: Sequence[LogEntry]) -> list[Record]:
        """The records of entries, in order.

        Raises:
            RefusedError: An entry is wrong; `offset` names the first one.
        """
        inserts = [entry for entry in entries if self._check(entry)]
        search = self._vectors(inserts, lambda entry: (entry.insert.search_type, entry.insert.search_vector))
        score = self._vectors(inserts, lambda entry: (entry.insert.score_type, entry.insert.score_vector))
        hashed: dict[int, tuple[NDArray[np.uint32], bytes]] = {}
        if inserts:
            terms = self.extractor.terms(search)
            codes = self.coder.codes(score, search)
            hashed = {entry.offset: (terms[row], codes[row].tobytes()) for row, entry in enumerate(inserts)}
        return [_record(entry, hashed) for entry in entries]

    def warm_up(self) -> None:
        """Runs both projections once, so that the first request is not slower than others."""
        search = np.ones((1, self.extractor.settings.dimension), np.float32)
        self.extractor.terms(search)
        self.coder.codes(np.ones((1, self.coder.dimension), np.float32), search)

    def terms(self, vectors: Sequence[Vector]) -> NDArray[np.uint32]:
        """The terms of search embeddings: (n, groups).

        Raises:
            BadInputError: A vector is wrong; the message gives its number and the reason.
        """
        for number, vector in enumerate(vectors):
            problem = vector_problem(
                f"vector {number}", vector.element_type, vector.data, self.extractor.settings.dimension
            )
            if problem is not None:
                raise BadInputError(problem.detail)
        if not vectors:
            return np.empty((0, self.extractor.settings.groups), np.uint32)
        return self.extractor.terms([vector_values(vector.element_type, vector.data) for vector in vectors])

    def _check(self, entry: LogEntry) -> bool:
        """Whether the entry is an insert.

        Raises:
            RefusedError: The entry is not valid.
        """
        match entry.WhichOneof("action"):
            case "skip":
                _check_id(entry, entry.skip.image_id, at_least=0)
                return False
            case "remove":
                _check_id(entry, entry.remove.image_id)
                return False
            case "insert":
                image = entry.insert
                _check_id(entry, image.image_id)
                problem = vector_problem(
                    "search_vector", image.search_type, image.search_vector, self.extractor.settings.dimension
                ) or vector_problem("score_vector", image.score_type, image.score_vector, self.coder.dimension)
                if problem is not None:
                    raise _refused(entry, problem.detail)
                return True
            case _:
                raise _refused(entry, "the entry has no action: it must insert, skip or remove")

    @staticmethod
    def _vectors(
        inserts: Sequence[LogEntry], field: Callable[[LogEntry], tuple[int, bytes]]
    ) -> list[NDArray[np.floating[Any]]]:
        parts = (field(entry) for entry in inserts)
        return [vector_values(kind, vector) for kind, vector in parts]


def _check_id(entry: LogEntry, image_id: str, at_least: int = 1) -> None:
    if not at_least <= len(image_id.encode()) <= MAX_ID_BYTES:
        raise _refused(entry, f"an image id has {at_least} to {MAX_ID_BYTES} bytes")


def _refused(entry: LogEntry, message: str) -> RefusedError:
    return RefusedError(f"offset {entry.offset}: {message}", entry.offset)


def _record(entry: LogEntry, hashed: dict[int, tuple[NDArray[np.uint32], bytes]]) -> Record:
    if entry.WhichOneof("action") == "skip":
        return Skip(entry.offset, entry.checksum, ImageId(entry.skip.image_id), entry.skip.image_version)
    if entry.WhichOneof("action") == "remove":
        return Remove(entry.offset, entry.checksum, ImageId(entry.remove.image_id), entry.remove.image_version)
    terms, code = hashed[entry.offset]
    image = entry.insert
    return Insert(entry.offset, entry.checksum, ImageId(image.image_id), image.image_version, terms, code)
