"""Synthetic images as bits and terms, made at speed: no embeddings, no projection.

Cluster centres are the signs of seeded Gaussian mixtures of `topics` directions, one direction a bit position. The
fewer topics, the more often two unrelated images agree in a group of bits: with 28 they do about as often as the
photographs of `examples/photos` (2.6 times as often as independent bits would at 16 bits a group, 1.6 at 12).

Cluster sizes follow a power law, P(s) ~ s ** -exponent, cut at a thousandth of the images; with the default exponent
the mean is about six. One member in seven is an exact copy of its centre; of the others each has its own share of bits
flipped, drawn evenly between 0 and `max_flipped`. Members are in random order over the whole corpus.

With 1,000,000 images a search for one of them touches some 3,400 postings at 64 groups of 16 bits.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from search.hashing.terms import TermSettings

__all__ = ["BITS", "Corpus", "CorpusSettings", "Shape", "make_corpus", "terms_of"]

BITS = 1024
"""Of every code."""

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class Shape:
    """How codes become terms."""

    groups: int
    bits_per_group: int

    @property
    def name(self) -> str:
        """Such as `64x16`."""
        return f"{self.groups}x{self.bits_per_group}"

    def positions(self) -> NDArray[np.intp]:
        """The bits of each group, drawn as the index's users draw them."""
        return TermSettings(2, 20_240_501, BITS, self.groups, self.bits_per_group).build().positions


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    """What to make."""

    images: int
    seed: int = 1
    topics: int = 28
    exponent: float = 1.92
    max_flipped: float = 0.2
    exact: float = 0.15
    """The share of members that are exact copies of their centre."""
    giant: int = 0
    """Members of one more cluster among the images."""
    giant_flipped: float = 0.0
    """The share of its bits that each member of the giant cluster has flipped."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Codes in order of place, and which cluster each belongs to (0 is the giant one, where there is one)."""

    settings: CorpusSettings
    codes: NDArray[np.uint8]
    """(images, BITS / 8)"""
    clusters: NDArray[np.int32]

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Members by cluster."""
        return np.bincount(self.clusters)

    def queries(self, count: int, seed: int = 7, *, giant: bool = False) -> NDArray[np.int64]:
        """Places to search for: different ones while there are enough, of ordinary clusters or of the giant one."""
        eligible = np.flatnonzero((self.clusters == 0) == giant) if self.settings.giant else np.arange(len(self.codes))
        rng = np.random.default_rng(seed)
        return rng.permutation(eligible)[:count] if count <= len(eligible) else rng.choice(eligible, count)


def make_corpus(settings: CorpusSettings) -> Corpus:
    """Makes the codes: about two seconds for a million."""
    rng = np.random.default_rng(settings.seed)
    clusters = _clusters(settings, rng)
    centres = _centres(int(clusters.max()) + 1, settings, rng)
    flips = _flips(clusters, settings, rng)
    codes = np.empty((settings.images, BITS // 8), np.uint8)
    _flip(centres, clusters, flips, settings.seed, codes)
    return Corpus(settings, codes, clusters)


def terms_of(codes: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint32]:
    """The terms of codes: (n, groups)."""
    terms = np.empty((len(codes), shape.groups), np.uint32)
    _gather(codes, shape.positions().astype(np.int32), terms)
    return terms


def without_giant(settings: CorpusSettings) -> CorpusSettings:
    """The same images, but for the giant cluster."""
    return replace(settings, images=settings.images - settings.giant, giant=0, giant_flipped=0.0)


def _clusters(settings: CorpusSettings, rng: np.random.Generator) -> NDArray[np.int32]:
    """The cluster of each place; the giant one takes number 0, the others follow."""
    ordinary = settings.images - settings.giant
    largest = max(2, ordinary // 1000)
    sizes = np.arange(1, largest + 1)
    weights = sizes**-settings.exponent
    drawn = rng.choice(sizes, ordinary, p=weights / weights.sum())
    needed = int(np.searchsorted(np.cumsum(drawn), ordinary)) + 1
    first = 1 if settings.giant else 0
    members = np.repeat(np.arange(first, first + needed), drawn[:needed])[:ordinary]
    everyone = np.concatenate([np.zeros(settings.giant, members.dtype), members]).astype(np.int32)
    return rng.permutation(everyone)


def _centres(count: int, settings: CorpusSettings, rng: np.random.Generator) -> NDArray[np.uint8]:
    directions = rng.standard_normal((settings.topics, BITS), dtype=np.float32)
    centres = np.empty((count, BITS // 8), np.uint8)
    for first in range(0, count, _CHUNK):
        chunk = min(_CHUNK, count - first)
        mixtures = rng.standard_normal((chunk, settings.topics), dtype=np.float32)
        centres[first : first + chunk] = np.packbits(mixtures @ directions > 0, axis=1)
    return centres


def _flips(clusters: NDArray[np.int32], settings: CorpusSettings, rng: np.random.Generator) -> NDArray[np.int32]:
    """How many bits of each image are flipped."""
    shares = rng.random(len(clusters), dtype=np.float32) * np.float32(settings.max_flipped)
    shares[rng.random(len(clusters), dtype=np.float32) < settings.exact] = 0.0
    if settings.giant:
        shares[clusters == 0] = settings.giant_flipped
    return np.rint(shares * BITS).astype(np.int32)


@numba.njit(cache=True)
def _flip(
    centres: NDArray[np.uint8],
    clusters: NDArray[np.int32],
    flips: NDArray[np.int32],
    seed: int,
    codes: NDArray[np.uint8],
) -> None:
    """Copies centres and flips bits: positions by SplitMix64, one stream an image, with replacement."""
    for image in range(codes.shape[0]):
        codes[image] = centres[clusters[image]]
        state = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + (np.uint64(image) << np.uint64(20))
        for _ in range(flips[image]):
            state += np.uint64(0x9E3779B97F4A7C15)
            mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bit = (mixed ^ (mixed >> np.uint64(31))) & np.uint64(1023)
            codes[image, bit >> np.uint64(3)] ^= np.uint8(128) >> np.uint8(bit & np.uint64(7))


@numba.njit(cache=True)
def _gather(codes: NDArray[np.uint8], positions: NDArray[np.int32], terms: NDArray[np.uint32]) -> None:
    """The bits at a group's positions, the first highest, are its term."""
    bits = np.empty(codes.shape[1] * 8, np.uint32)
    for image in range(codes.shape[0]):
        for byte in range(codes.shape[1]):
            value = codes[image, byte]
            for bit in range(8):
                bits[byte * 8 + bit] = (value >> np.uint8(7 - bit)) & np.uint8(1)
        for group in range(positions.shape[0]):
            term = np.uint32(0)
            for index in range(positions.shape[1]):
                term = (term << np.uint32(1)) | bits[positions[group, index]]
            terms[image, group] = term
