"""Fitting the centres of a signal's embeddings: the mean vectors that are taken away before hashing.

Means of non-negative activations lie far from the origin; hyperplanes through it would give most images the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from search.errors import BadInputError
from search.protos.events_pb2 import FLOAT16
from stream.image_files import ImageFile, ImageRow, Vector

__all__ = ["fit_centres", "write_centres"]


def fit_centres(images: ImageFile, on_row: Callable[[], None] = lambda: None) -> dict[str, NDArray[np.float32]]:
    """The mean search and score embedding of a file's images, summed in float64, in constant memory.

    Raises:
        BadInputError: There are no images, or a value is not finite; the message names the image.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    rows = 0
    for row in images:
        for name, vector in (("search", row.search), ("score", row.score)):
            values = _numbers(row, name, vector)
            sums[name] = values if rows == 0 else sums[name] + values
        rows += 1
        on_row()
    if rows == 0:
        raise BadInputError(f"{images.path} holds no images")
    return {name: (total / rows).astype(np.float32) for name, total in sums.items()}


def write_centres(path: Path, centres: dict[str, NDArray[np.float32]]) -> None:
    """Writes the .npz that a signal's `centres` names, in one step.

    Raises:
        BadInputError: It cannot be written.
    """
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as stream:
            np.savez_compressed(stream, **{name: centre.astype("<f4") for name, centre in centres.items()})
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    except OSError as error:
        raise BadInputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def _numbers(row: ImageRow, name: str, vector: Vector) -> NDArray[np.float64]:
    values = np.frombuffer(vector.data, "<f2" if vector.element_type == FLOAT16 else "<f4").astype(np.float64)
    if not np.isfinite(values).all():
        raise BadInputError(f"the {name} embedding of image {row.image_id!r} holds a value that is not finite")
    return values
