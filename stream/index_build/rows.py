"""From images to rows of an index: both embeddings are hashed, many images at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from core.dead_letters import Reason
from core.errors import BadInputError
from core.types import ImageId
from core.vectors import stored_problem, vector_rows
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
    chosen = np.flatnonzero(kinds == Kind.SEARCHABLE)
    images = [batch[row] for row in chosen]
    search, searchable = vector_rows([image.search_vector for image in images], extractor.settings.dimension)
    score, scorable = vector_rows([image.score_vector for image in images], coder.dimension)
    sound = searchable & scorable
    if not sound.all():
        for row in np.flatnonzero(~sound).tolist():
            _check_lengths(images[row], extractor.settings.dimension, coder.dimension)
        kinds[chosen[~sound]] = Kind.SKIPPED  # the stream would reject it
        search, score = search[sound], score[sound]
    return IndexRows(
        places=np.array([image.place for image in batch], np.int64),
        image_ids=[image.image_id for image in batch],
        versions=np.array([image.version for image in batch], np.uint64),
        kinds=kinds,
        terms=extractor.terms(search),
        codes=coder.codes(score, search),
    )


def _check_lengths(image: PlacedImage, search_dimension: int, score_dimension: int) -> None:
    """Refuses an image whose vectors are of another dimension than the signal's."""
    for name, data, dimension in (
        ("search_vector", image.search_vector, search_dimension),
        ("score_vector", image.score_vector, score_dimension),
    ):
        problem = stored_problem(name, data, dimension)
        if problem is not None and problem.reason is Reason.WRONG_VECTOR_LENGTH:
            raise BadInputError(f"image {image.image_id!r} at place {image.place}: {problem.detail}")
