"""From images to rows of an index: both embeddings are hashed, many images at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.dead_letters import Reason
from core.errors import BadInputError
from core.types import ImageId
from core.vectors import stored_type, vector_problem, vector_values
from search.hashing.score_codes import ScoreCodes
from search.hashing.terms import TermExtractor
from search.index.columns import Kind
from stream.index_build.sources import PlacedImage

__all__ = ["IndexRows", "index_rows"]

BATCH = 1024
"""Images that are hashed at once: about 10 MB of float32."""


@dataclass(frozen=True, slots=True, eq=False)
class IndexRows:
    """Placed image versions, in order of place."""

    places: NDArray[np.int64]
    """(n,)"""
    image_ids: Sequence[ImageId]
    """n of them."""
    versions: NDArray[np.uint64]
    """(n,)"""
    kinds: NDArray[np.uint8]
    """(n,) see `search.index.columns.Kind`; only searchable versions have terms and a code."""
    terms: NDArray[np.uint32]
    """(searchable versions, groups)"""
    codes: NDArray[np.uint8]
    """(searchable versions, code bytes)"""


def index_rows(images: Iterable[PlacedImage], extractor: TermExtractor, coder: ScoreCodes) -> Iterator[IndexRows]:
    """The rows of images, batch by batch; each row depends on its own image alone.

    Raises:
        BadInputError: A vector has not the signal's dimension; the message names the image.
    """
    remaining = iter(images)
    while batch := list(islice(remaining, BATCH)):
        yield _rows(batch, extractor, coder)


def _rows(batch: Sequence[PlacedImage], extractor: TermExtractor, coder: ScoreCodes) -> IndexRows:
    kinds = np.array([image.kind for image in batch], np.uint8)
    search, score = [], []
    for row, image in enumerate(batch):
        if image.kind is not Kind.SEARCHABLE:
            continue
        seen = _vector(image, "search_vector", image.search_vector, extractor.settings.dimension)
        scored = _vector(image, "score_vector", image.score_vector, coder.dimension)
        if seen is None or scored is None:
            kinds[row] = Kind.SKIPPED
            continue
        search.append(seen)
        score.append(scored)
    nothing = np.empty((0, extractor.settings.groups), np.uint32), np.empty((0, coder.code_bytes), np.uint8)
    terms, codes = (extractor.terms(search), coder.codes(score, search)) if search else nothing
    return IndexRows(
        places=np.array([image.place for image in batch], np.int64),
        image_ids=[image.image_id for image in batch],
        versions=np.array([image.version for image in batch], np.uint64),
        kinds=kinds,
        terms=terms,
        codes=codes,
    )


def _vector(image: PlacedImage, name: str, data: bytes, dimension: int) -> NDArray[np.floating[Any]] | None:
    """The numbers of a vector; None when the stream would reject it."""
    element_type = stored_type(data, dimension)
    problem = vector_problem(name, element_type, data, dimension)
    if problem is None:
        return vector_values(element_type, data)
    if problem.reason is Reason.WRONG_VECTOR_LENGTH:
        raise BadInputError(f"image {image.image_id!r} at place {image.place}: {problem.detail}")
    return None
