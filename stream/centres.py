"""Fits the centres of a signal's embeddings: the mean vectors that are subtracted before hashing.

Non-negative activations have means far from the origin, so hyperplanes through the origin would give most images the
same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from core.files import replacing
from core.vectors import vector_problem, vector_values
from search.hashing.signed_sqrt import signed_sqrt
from stream.image_files import ImageFile, ImageRow, Vector

__all__ = ["SIGNED_SQRT_SEARCH", "fit_centres", "write_centres"]

SIGNED_SQRT_SEARCH = "signed_sqrt_search"
"""The name of the centre of the search embeddings' signed square roots."""


def fit_centres(images: ImageFile, on_row: Callable[[], None] = lambda: None) -> dict[str, NDArray[np.float32]]:
    """The mean search and score embedding of a file's images, and the mean of the search embeddings' signed square
    roots.

    The sums are float64 and need constant memory.

    Raises:
        BadInputError: There are no images, or the stream would refuse a vector; the message names the image.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    rows = 0
    for row in images:
        search, score = _numbers(row, "search", row.search), _numbers(row, "score", row.score)
        for name, values in (("search", search), ("score", score), (SIGNED_SQRT_SEARCH, signed_sqrt(search))):
            sums[name] = sums.get(name, 0.0) + values.astype(np.float64)
        rows += 1
        on_row()
    if rows == 0:
        raise BadInputError(f"{images.path} holds no images")
    return {name: (total / rows).astype(np.float32) for name, total in sums.items()}


def write_centres(path: Path, centres: dict[str, NDArray[np.float32]]) -> None:
    """Writes the .npz file that a signal's `centres` names, atomically.

    Raises:
        BadInputError: It cannot be written.
    """
    try:
        with replacing(path) as draft, draft.open("wb") as stream:
            np.savez_compressed(stream, **{name: centre.astype("<f4") for name, centre in centres.items()})
    except OSError as error:
        raise BadInputError(f"cannot write {path}: {error.strerror or error}") from error


def _numbers(row: ImageRow, name: str, vector: Vector) -> NDArray[np.float32]:
    problem = vector_problem(name, vector.element_type, vector.data)
    if problem is not None:
        raise BadInputError(f"image {row.image_id!r}: {problem.detail}")
    return vector_values(vector.element_type, vector.data)
