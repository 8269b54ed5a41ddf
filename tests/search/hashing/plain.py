"""The hashing as its definition says it, one step after the other over whole batches: the oracle of the fast form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.vectors import unit_rows
from search.hashing.fitted_projection import FittedProjection
from search.hashing.projection import PLANE_NORM
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermExtractor


def plain_roots(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.sign(wide) * np.sqrt(np.abs(wide))


def plain_quantised(rows: NDArray[np.float32], centre: NDArray[np.float32] | None) -> NDArray[np.float32]:
    centred = rows.astype(np.float64) - (0.0 if centre is None else centre.astype(np.float64))
    _, exponent = np.frexp(np.abs(centred).max(axis=1, initial=0.0))
    whole = np.rint(np.ldexp(centred, (21 - exponent)[:, None])).astype(np.int64)
    squares = (whole * whole).sum(axis=1)
    halvings = sum((squares >> 2 * step >= PLANE_NORM**2).astype(np.int64) for step in range(18))
    return np.rint(np.ldexp(whole.astype(np.float64), -np.asarray(halvings)[:, None])).astype(np.float32)


def plain_values(projection: FittedProjection, rows: NDArray[np.float32]) -> NDArray[np.int8]:
    whole = np.clip(np.rint((plain_roots(rows) - projection.centre) * 2.0**12), -(2**20), 2**20).astype(np.int64)
    sums = whole @ projection.weights.astype(np.int64)
    return np.clip(np.rint(sums * 2.0**-projection.shift), -127, 127).astype(np.int8)


def plain_codes(settings: CodeSettings, score: NDArray[np.float32], search: NDArray[np.float32]) -> NDArray[np.uint8]:
    rows, hyperplanes = unit_rows(score) if settings.normalise else score, settings.build().hyperplanes
    values = np.empty((len(rows), 0), np.int8)
    if settings.projection is not None:
        others = unit_rows(search) if settings.normalise_search else search
        values = plain_values(settings.projection, np.hstack([rows, others]) if settings.search_dimension else rows)
    if hyperplanes is None:
        sides = values > 0
    else:
        sides = plain_quantised(rows, settings.centre).astype(np.int64) @ hyperplanes.planes.astype(np.int64).T > 0
    return np.hstack([np.packbits(sides, axis=1), values.view(np.uint8)])


def plain_terms(extractor: TermExtractor, rows: NDArray[np.float32]) -> NDArray[np.uint32]:
    settings = extractor.settings
    rows = unit_rows(rows) if settings.normalise else rows
    rows = plain_roots(rows).astype(np.float32) if settings.signed_sqrt else rows
    whole = plain_quantised(rows, settings.centre).astype(np.int64)
    bits = whole @ extractor.hyperplanes.planes.astype(np.int64).T > 0
    weights = 1 << np.arange(settings.bits_per_group - 1, -1, -1)
    return (bits[:, extractor.positions] @ weights).astype(np.uint32)
