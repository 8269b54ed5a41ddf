"""The centres of a signal's embeddings, and what else `neardup centres` measures on a sample of images.

Centres are the mean vectors that are subtracted before hashing. Non-negative activations have means far from the
origin, so hyperplanes through the origin would give most images the same bits.

The .npz file holds:

    search, score               the mean vectors, float32
    signed_sqrt_search          the mean of the search embeddings' signed square roots, float32
    format                      2; a file without it is of format 1 and has only the arrays above
    quantiles                   which quantiles the next arrays give
    search_norms, ...           of the norms of the vectors
    search_distances, ...       of their distances to the mean
    search_deviations, ...      of their distances to the nearest constant vector
    search_normalised, ...      whether the vectors were divided by their norms first
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, MismatchError
from core.files import replacing
from core.notifications import EmbeddingSpec
from core.vector_limits import QUANTILES, MeasuredVectors
from core.vectors import unit_rows, vector_problem, vector_values
from manifests.image_files import ImageFile, ImageRow, Vector
from search.hashing.signed_sqrt import signed_sqrt

__all__ = [
    "SIGNED_SQRT_SEARCH",
    "Centres",
    "VectorPair",
    "file_vectors",
    "fit_means",
    "measure",
    "read_centres",
    "write_centres",
]

SIGNED_SQRT_SEARCH = "signed_sqrt_search"
"""The name of the mean of the search embeddings' signed square roots."""

_FORMAT = 2

_SIDES = ("search", "score")

VectorPair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The search and the score embedding of an image."""

Means = dict[str, NDArray[np.float32]]
"""The mean vectors by name: `search`, `score`, `SIGNED_SQRT_SEARCH`."""


@dataclass(frozen=True, eq=False)
class Centres:
    """What a file of centres holds; dictionaries are by the name of the embedding, `search` or `score`."""

    means: Means
    normalised: dict[str, bool]
    measured: dict[str, MeasuredVectors]
    """Empty in files of format 1."""

    def check(self, side: str, spec: EmbeddingSpec, path: Path) -> None:
        """Checks that the file was made for an embedding as the settings describe it.

        Raises:
            MismatchError: It was not; the message has both values.
        """
        if self.normalised[side] != spec.normalise:
            raise MismatchError(
                f"the settings say normalise = {str(spec.normalise).lower()} of the {side} embedding, {path} was made "
                f"with {str(self.normalised[side]).lower()}: change the setting, or make the file anew with "
                "`neardup centres` (index and model are then made anew too)"
            )


def fit_means(vectors: Iterable[VectorPair], search: EmbeddingSpec, score: EmbeddingSpec) -> Means:
    """The mean search and score embedding, and the mean of the search embeddings' signed square roots.

    The sums are float64 and need constant memory.

    Args:
        vectors: Of the images of the sample.
        search: The search embedding; says whether its vectors are normalised first.
        score: The score embedding.

    Raises:
        BadInputError: There are no images.
    """
    sums: dict[str, NDArray[np.float64]] = {}
    rows = 0
    for pair in vectors:
        first, second = (_values(vector, spec) for vector, spec in zip(pair, (search, score), strict=True))
        for name, values in (("search", first), ("score", second), (SIGNED_SQRT_SEARCH, _roots(first))):
            sums[name] = sums.get(name, 0.0) + values
        rows += 1
    if rows == 0:
        raise BadInputError("there are no images to fit centres on")
    return {name: (total / rows).astype(np.float32) for name, total in sums.items()}


def measure(vectors: Iterable[VectorPair], means: Means, search: EmbeddingSpec, score: EmbeddingSpec) -> Centres:
    """Measures norms and distances around given means. Needs 48 bytes of memory an image.

    Raises:
        BadInputError: There are no images.
    """
    specs = {"search": search, "score": score}
    found: dict[str, list[tuple[float, float, float]]] = {side: [] for side in _SIDES}
    for pair in vectors:
        for (side, spec), vector in zip(specs.items(), pair, strict=True):
            values = _values(vector, spec)
            differences = (values, values - means[side], values - values.mean())
            norm, distance, deviation = (float(np.linalg.norm(difference)) for difference in differences)
            found[side].append((norm, distance, deviation))
    if not found["search"]:
        raise BadInputError("there are no images to measure")
    measured = {
        side: MeasuredVectors(means[side], *np.quantile(np.array(rows), QUANTILES, axis=0).T.copy())
        for side, rows in found.items()
    }
    return Centres(means, {side: spec.normalise for side, spec in specs.items()}, measured)


def file_vectors(images: ImageFile, on_row: Callable[[], None] = lambda: None) -> Iterator[VectorPair]:
    """The vectors of a file.

    Raises:
        BadInputError: The stream would refuse the form of a vector; the message names the image.
    """
    for row in images:
        yield _numbers(row, "search", row.search), _numbers(row, "score", row.score)
        on_row()


def write_centres(path: Path, centres: Centres) -> None:
    """Writes the .npz file that a signal's `centres` names, atomically.

    Raises:
        BadInputError: It cannot be written.
    """
    arrays: dict[str, Any] = {name: mean.astype("<f4") for name, mean in centres.means.items()}
    arrays |= {"format": np.array(_FORMAT), "quantiles": np.array(QUANTILES)}
    for side, measured in centres.measured.items():
        arrays |= {
            f"{side}_norms": measured.norms,
            f"{side}_distances": measured.distances,
            f"{side}_deviations": measured.deviations,
            f"{side}_normalised": np.array(centres.normalised[side]),
        }
    try:
        with replacing(path) as draft, draft.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
    except OSError as error:
        raise BadInputError(f"cannot write {path}: {error.strerror or error}") from error


def read_centres(path: Path) -> Centres:
    """Reads a file of centres, of this format or of format 1.

    Raises:
        BadInputError: It cannot be read, is of a later format, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return _centres({name: arrays[name] for name in arrays.files})
    except BadInputError as error:
        raise BadInputError(f"the centres in {path} cannot be used: {error}") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BadInputError(f"cannot read the centres in {path}: {error}; `neardup centres` makes them") from error


def _centres(arrays: dict[str, NDArray[Any]]) -> Centres:
    found = int(arrays["format"]) if "format" in arrays else 1
    if found > _FORMAT:
        raise BadInputError(f"format {found}, this release reads up to {_FORMAT}")
    # Release 0.1 wrote files without square roots at first, so each mean is asked for where it is needed.
    names = (*_SIDES, SIGNED_SQRT_SEARCH)
    means = {name: arrays[name].astype(np.float32, copy=False) for name in names if name in arrays}
    if found == 1:
        return Centres(means, dict.fromkeys(_SIDES, False), {})
    if tuple(arrays["quantiles"]) != QUANTILES:
        raise BadInputError(f"quantiles {arrays['quantiles'].tolist()}, this release reads {list(QUANTILES)}")
    measured = {
        side: MeasuredVectors(
            means[side], *(_quantiles(arrays, f"{side}_{name}") for name in ("norms", "distances", "deviations"))
        )
        for side in _SIDES
    }
    return Centres(means, {side: bool(arrays[f"{side}_normalised"]) for side in _SIDES}, measured)


def _quantiles(arrays: dict[str, NDArray[Any]], name: str) -> NDArray[np.float64]:
    values = arrays[name].astype(np.float64)
    if values.shape != (len(QUANTILES),) or not np.isfinite(values).all() or (np.diff(values) < 0).any():
        raise BadInputError(f"{name} holds {values.tolist()}, not {len(QUANTILES)} ascending numbers")
    return values


def _values(vector: NDArray[np.float32], spec: EmbeddingSpec) -> NDArray[np.float64]:
    # Normalised values are rounded to float32 as the hashing rounds them.
    return unit_rows(vector[None, :])[0].astype(np.float64) if spec.normalise else vector.astype(np.float64)


def _roots(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return signed_sqrt(values.astype(np.float32))


def _numbers(row: ImageRow, name: str, vector: Vector) -> NDArray[np.float32]:
    problem = vector_problem(name, vector.element_type, vector.data)
    if problem is not None:
        raise BadInputError(f"image {row.image_id!r}: {problem.detail}")
    return vector_values(vector.element_type, vector.data)
