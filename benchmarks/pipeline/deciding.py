"""How the consumer that somebody writes decides an image: a join in a dict, nearest codes, scores, puts.

The index is FAISS, the model is ours, heads and members are keys of RocksDB, not synced. Nothing of it survives a crash
in one piece, and no two runs need to give the same clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rocksdict import Options, Rdict, WriteBatch

from benchmarks.pipeline.neighbours import NearestCodes
from core.vectors import vector_values
from neardup.events_pb2 import EmbeddingNotification
from scoring.model import PairModel
from search.hashing.score_codes import ScoreCodes
from search.hashing.terms import TermExtractor

__all__ = ["CompleteImage", "DictJoin", "HeadStore", "PlainDecider", "PlainHead", "PlainParts"]


@dataclass(frozen=True, slots=True, eq=False)
class CompleteImage:
    """Both embeddings of one image."""

    image_id: str
    version: int
    search: NDArray[np.float32]
    score: NDArray[np.float32]
    arrived_at_ms: int
    """When Kafka got the later one, in milliseconds since the epoch."""


@dataclass(frozen=True, slots=True)
class PlainHead:
    """What was decided for an image."""

    image: CompleteImage
    head: str


class DictJoin:
    """Halves that wait for the other one, in a dict."""

    def __init__(self) -> None:
        """Nothing waits."""
        self._waiting: dict[tuple[str, int], tuple[bool, NDArray[np.float32], int]] = {}

    def take(self, of_search: bool, payload: bytes, timestamp_ms: int) -> CompleteImage | None:
        """Takes a notification of one of the two topics; the image, if its other half is there."""
        half = EmbeddingNotification.FromString(payload)
        vector = vector_values(half.element_type, half.vector)
        key = half.image_id, half.image_version
        waiting = self._waiting.get(key)
        if waiting is None or waiting[0] == of_search:
            self._waiting[key] = of_search, vector, timestamp_ms
            return None
        del self._waiting[key]
        _, other, other_ms = waiting
        search, score = (vector, other) if of_search else (other, vector)
        return CompleteImage(*key, search, score, max(timestamp_ms, other_ms))


class HeadStore:
    """Heads and members as keys of RocksDB."""

    def __init__(self, folder: Path) -> None:
        """Makes it."""
        self._db = Rdict(str(folder), Options(raw_mode=True))

    def head(self, image_id: str) -> str:
        """The head of a known image."""
        return bytes(self._db[image_id.encode()]).decode()

    def put(self, heads: Sequence[tuple[str, str]]) -> None:
        """Writes images with their heads: one by one, or several in one batch."""
        if len(heads) == 1:
            ((image_id, head),) = heads
            self._db[image_id.encode()] = head.encode()
            self._db[f"{head}/{image_id}".encode()] = b""
            return
        batch = WriteBatch(raw_mode=True)
        for image_id, head in heads:
            batch.put(image_id.encode(), head.encode())
            batch.put(f"{head}/{image_id}".encode(), b"")
        self._db.write(batch)

    def close(self) -> None:
        """Closes it."""
        self._db.close()


@dataclass(frozen=True, slots=True, eq=False)
class PlainParts:
    """What decides an image."""

    extractor: TermExtractor
    coder: ScoreCodes
    model: PairModel
    index: NearestCodes
    store: HeadStore
    candidates: int


class PlainDecider:
    """Decides images: the nearest codes, their scores, the head of the best match, puts."""

    def __init__(self, parts: PlainParts, capacity: int) -> None:
        """Takes the parts, and how many images there may be in all."""
        self._parts = parts
        self._ids: list[str] = []
        self._rows: dict[str, int] = {}
        self._codes = np.empty((capacity, parts.coder.code_bytes), np.uint8)

    def fill(self, image_ids: Sequence[str], heads: Sequence[str], codes: NDArray[np.uint8]) -> None:
        """Takes images that were decided before; the index has their bits already."""
        self._known(image_ids, codes)
        self._parts.store.put(list(zip(image_ids, heads, strict=True)))

    def decide(self, images: Sequence[CompleteImage]) -> list[PlainHead]:
        """Decides images, in order; each may match the earlier ones."""
        parts, first = self._parts, len(self._ids)
        search = [image.search for image in images]
        bits = np.packbits(parts.extractor.bits(search), axis=1)
        codes = parts.coder.codes([image.score for image in images], search)
        parts.index.add(bits)
        self._known([image.image_id for image in images], codes)
        nearest = parts.index.nearest(bits, parts.candidates + 1)
        candidates = [[row for row in rows if 0 <= row < at] for at, rows in enumerate(nearest.tolist(), first)]
        matches = self._best_matches(first, candidates)
        heads = self._heads(first, matches)
        parts.store.put([(image.image_id, head) for image, head in zip(images, heads, strict=True)])
        return [PlainHead(image, head) for image, head in zip(images, heads, strict=True)]

    def _known(self, image_ids: Sequence[str], codes: NDArray[np.uint8]) -> None:
        first = len(self._ids)
        self._codes[first : first + len(codes)] = codes
        self._rows.update((image_id, row) for row, image_id in enumerate(image_ids, first))
        self._ids += image_ids

    def _best_matches(self, first: int, candidates: Sequence[Sequence[int]]) -> list[int | None]:
        """The row that matches each image best; None: nothing matches."""
        left = np.repeat(np.arange(first, first + len(candidates)), [len(rows) for rows in candidates])
        right = np.array([row for rows in candidates for row in rows], np.int64)
        scores = self._parts.model.score(self._codes[left], self._codes[right])
        accept = self._parts.model.card.thresholds.accept
        found: list[int | None] = []
        at = 0
        for rows in candidates:
            own = scores[at : at + len(rows)]
            at += len(rows)
            best = int(own.argmax()) if len(own) else -1
            found.append(rows[best] if best >= 0 and own[best] >= accept else None)
        return found

    def _heads(self, first: int, matches: Sequence[int | None]) -> list[str]:
        """The head of each image: that of its match, if the head matches too; else the image itself."""
        heads: list[str] = []
        for at, match in enumerate(matches):
            if match is None:
                heads.append(self._ids[first + at])
            elif match < first:
                heads.append(self._parts.store.head(self._ids[match]))
            else:  # an earlier image of the same batch
                heads.append(heads[match - first])
        rows = np.array([self._rows[head] for head in heads], np.int64)
        left = np.arange(first, first + len(matches))
        scores = self._parts.model.score(self._codes[left], self._codes[rows])
        least = self._parts.model.card.thresholds.head_accept
        return [
            head if row == own or score >= least else self._ids[own]
            for head, row, own, score in zip(heads, rows.tolist(), left.tolist(), scores.tolist(), strict=True)
        ]
