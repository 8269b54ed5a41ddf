"""Other methods to recognise copies than a trained network, as pair scorers.

Those on photographs take row numbers as codes (`row_codes`), so that the same streams can run them. Those on pictures
return a matrix of similarities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scoring.features import hamming_distances
from search.hashing.projection import Hyperplanes
from search.hashing.score_codes import CodeSettings
from training.simulation import PairScorer

__all__ = ["cosine_scorer", "hamming_scorer", "hash_similarities", "row_codes", "rows_of"]

_BITS = 1024
"""Random hyperplanes of `hamming_scorer`."""

_PART = 8192
"""Pairs that are compared at a time."""


def row_codes(count: int) -> NDArray[np.uint8]:
    """Codes (count, 4) that hold row numbers."""
    return np.arange(count, dtype="<u4")[:, None].view(np.uint8)


def cosine_scorer(vectors: NDArray[np.float32], mean: NDArray[np.float32]) -> PairScorer:
    """The cosine of vectors less their mean, scaled to 0 to 1."""
    centred = vectors - mean
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)

    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        one, other = rows_of(left), rows_of(right)
        cosines = np.empty(len(one), dtype=np.float32)
        for start in range(0, len(one), _PART):
            part = slice(start, start + _PART)
            cosines[part] = np.einsum("ij,ij->i", unit[one[part]], unit[other[part]])
        return ((1 + cosines) / 2).astype(np.float32)

    return score


def hamming_scorer(vectors: NDArray[np.float32], code: CodeSettings) -> PairScorer:
    """The share of equal bits of random hyperplanes."""
    bits = Hyperplanes(code.dimension, _BITS, code.seed, code.centre).codes(code.score_rows(vectors))

    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        different = hamming_distances(bits[rows_of(left)], bits[rows_of(right)])
        return (1 - different / _BITS).astype(np.float32)

    return score


def hash_similarities(files: Sequence[Path]) -> dict[str, NDArray[np.float32]]:
    """For each perceptual hash the share of equal bits of all pairs of pictures: PDQ (256 bits), pHash (64 bits)."""
    import imagehash
    import pdqhash
    from PIL import Image

    pictures = [Image.open(file).convert("RGB") for file in files]
    hashes = {
        "PDQ": np.stack([pdqhash.compute(np.asarray(picture))[0] for picture in pictures]).astype(bool),
        "pHash": np.stack([imagehash.phash(picture).hash.reshape(-1) for picture in pictures]),
    }
    return {name: _equal(bits) for name, bits in hashes.items()}


def _equal(bits: NDArray[np.bool_]) -> NDArray[np.float32]:
    share: NDArray[np.float32] = 1 - (bits[:, None] ^ bits[None]).mean(axis=2, dtype=np.float32)
    return share


def rows_of(codes: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The row numbers in such codes."""
    rows: NDArray[np.uint32] = np.ascontiguousarray(codes).view("<u4")[:, 0]
    return rows
