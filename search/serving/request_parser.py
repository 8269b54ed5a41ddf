"""From records on the wire to records of the index: every value is checked, then all are hashed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, RefusedError
from core.notifications import MAX_ID_BYTES
from core.protos.joined_pb2 import JoinedImage
from core.types import ImageId
from core.vectors import stored_type, vector_problem, vector_rows
from search.hashing.score_codes import ScoreCodes
from search.hashing.terms import TermExtractor
from search.index.interface import Insert, Record, Remove, Replay, Skip
from search.serving.search_pb2 import LogEntry, SearchQuery, Vector

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
        images, refused = [], None
        for entry in entries:
            try:
                image = _carried(entry)
            except RefusedError as error:  # a vector of an entry before it may be wrong too
                refused = error
                break
            if image is not None:
                images.append((entry, image))
        hashed = self._hashed(images)
        if refused is not None:
            raise refused
        return [_record(entry, hashed) for entry in entries]

    def _hashed(self, images: Sequence[tuple[LogEntry, JoinedImage]]) -> dict[int, tuple[NDArray[np.uint32], bytes]]:
        """Terms and code of the images that entries carry, by offset.

        Raises:
            RefusedError: A vector is wrong; `offset` names the first entry of one.
        """
        if not images:
            return {}
        search, searchable = vector_rows([image.search_vector for _, image in images], self._search_dimension)
        score, scorable = vector_rows([image.score_vector for _, image in images], self.coder.dimension)
        for (entry, image), sound in zip(images, (searchable & scorable).tolist(), strict=True):
            if not (sound and self._typed(image)):
                self._check_vectors(entry, image)
        terms, codes = self.extractor.terms(search), self.coder.codes(score, search)
        return {entry.offset: (terms[row], codes[row].tobytes()) for row, (entry, _) in enumerate(images)}

    def _typed(self, image: JoinedImage) -> bool:
        """Whether the types that an image names are those that the lengths of its vectors tell."""
        found = (
            stored_type(image.search_vector, self._search_dimension),
            stored_type(image.score_vector, self.coder.dimension),
        )
        return found == (image.search_type, image.score_type)

    def warm_up(self) -> None:
        """Runs both projections once, so that the first request is not slower than others."""
        search = np.ones((1, self.extractor.settings.dimension), np.float32)
        self.extractor.terms(search)
        self.coder.codes(np.ones((1, self.coder.dimension), np.float32), search)

    def vectors(self, queries: Sequence[SearchQuery]) -> list[tuple[NDArray[np.uint32], bytes]]:
        """Terms and code of queries by vector; the code is empty where no score embedding came.

        Raises:
            BadInputError: A vector is wrong; the message gives its number and the reason.
        """
        if not queries:
            return []
        search = self._rows("vector", {row: query.vector for row, query in enumerate(queries)}, self._search_dimension)
        scores = {row: query.score for row, query in enumerate(queries) if query.HasField("score")}
        codes = [b""] * len(queries)
        if scores:
            coded = self.coder.codes(self._rows("score vector", scores, self.coder.dimension), search[list(scores)])
            for row, code in zip(scores, coded, strict=True):
                codes[row] = code.tobytes()
        return list(zip(self.extractor.terms(search), codes, strict=True))

    @staticmethod
    def _rows(name: str, vectors: Mapping[int, Vector], dimension: int) -> NDArray[np.float32]:
        """Embeddings as rows (n, dimension), by the numbers of their queries."""
        rows, sound = vector_rows([vector.data for vector in vectors.values()], dimension)
        for (number, vector), good in zip(vectors.items(), sound.tolist(), strict=True):
            if good and stored_type(vector.data, dimension) == vector.element_type:
                continue
            problem = vector_problem(f"{name} {number}", vector.element_type, vector.data, dimension)
            if problem is not None:
                raise BadInputError(problem.detail)
        return rows

    def _check_vectors(self, entry: LogEntry, image: JoinedImage) -> None:
        problem = vector_problem(
            "search_vector", image.search_type, image.search_vector, self._search_dimension
        ) or vector_problem("score_vector", image.score_type, image.score_vector, self.coder.dimension)
        if problem is not None:
            raise _refused(entry, problem.detail)

    @property
    def _search_dimension(self) -> int:
        return self.extractor.settings.dimension


def _carried(entry: LogEntry) -> JoinedImage | None:
    """The image that an entry carries. Its vectors are not checked.

    Raises:
        RefusedError: The entry is not valid.
    """
    match entry.WhichOneof("action"):
        case "skip":
            _check_id(entry, entry.skip.image_id, at_least=0)
            return None
        case "remove":
            _check_id(entry, entry.remove.image_id)
            return None
        case "replay":
            _check_id(entry, entry.replay.image_id)
            return _carried_by_replay(entry) if entry.replay.HasField("image") else None
        case "insert":
            _check_id(entry, entry.insert.image_id)
            return entry.insert
        case _:
            raise _refused(entry, "the entry has no action: it must insert, skip, remove or replay")


def _carried_by_replay(entry: LogEntry) -> JoinedImage:
    replayed, carried = entry.replay.image_id, entry.replay.image.image_id
    if replayed != carried:
        raise _refused(entry, f"it replays {replayed!a} and carries {carried[:MAX_ID_BYTES]!a}")
    return entry.replay.image


def _check_id(entry: LogEntry, image_id: str, at_least: int = 1) -> None:
    if not at_least <= len(image_id.encode()) <= MAX_ID_BYTES:
        raise _refused(entry, f"an image id has {at_least} to {MAX_ID_BYTES} bytes")


def _refused(entry: LogEntry, message: str) -> RefusedError:
    return RefusedError(f"offset {entry.offset}: {message}", entry.offset)


def _record(entry: LogEntry, hashed: Mapping[int, tuple[NDArray[np.uint32], bytes]]) -> Record:
    match entry.WhichOneof("action"):
        case "skip":
            return Skip(entry.offset, entry.checksum, ImageId(entry.skip.image_id), entry.skip.image_version)
        case "remove":
            remove = entry.remove
            version = remove.image_version if remove.HasField("image_version") else None
            return Remove(entry.offset, entry.checksum, ImageId(remove.image_id), version, remove.forget)
        case "replay":
            replay = entry.replay
            image = _insert(entry, replay.image, hashed) if replay.HasField("image") else None
            return Replay(entry.offset, entry.checksum, ImageId(replay.image_id), image)
        case _:
            image = _insert(entry, entry.insert, hashed)
            return replace(image, searched=False) if entry.unsearched else image


def _insert(entry: LogEntry, image: JoinedImage, hashed: Mapping[int, tuple[NDArray[np.uint32], bytes]]) -> Insert:
    terms, code = hashed[entry.offset]
    return Insert(entry.offset, entry.checksum, ImageId(image.image_id), image.image_version, terms, code)
