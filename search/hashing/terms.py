"""Terms: what near-duplicate images are likely to share, and what the term index counts.

A search embedding, or its signed square roots, becomes Hamming bits (`search.hashing.projection`). Each of `groups`
groups draws `bits_per_group` of their positions, by seed and without replacement inside a group. The bits at these
positions, the first one highest, are the group's value. A term is the pair (group, value). Two images share as many
terms as they have groups of equal value.

The two error curves of this hashing, over all draws of the groups:

- `found_probability`: two images whose bits differ in `distance` positions share at least `min_overlap` terms;
- `missed_probability`: they do not.

Each image has one term a group, so two images that share m of G terms have 2G - m different ones together: `jaccard`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from math import acos, comb, pi

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import SettingsError
from core.vectors import unit_rows
from search.hashing.projection import Hyperplanes, centre_checksum, checked_rows, frozen_centre

__all__ = [
    "MAX_BITS_PER_GROUP",
    "MAX_GROUPS",
    "TermExtractor",
    "TermSettings",
    "expected_overlap",
    "found_probability",
    "jaccard",
    "missed_probability",
    "same_term_probability",
]

MAX_BITS_PER_GROUP = 24
"""With longer groups, two images would hardly share any term."""

MAX_GROUPS = 1024
"""Overlaps travel as u16; in practice far fewer groups are useful."""

_FORMAT = "neardup-terms-2"
"""Part of the fingerprint; it changes when the drawing or packing of groups changes."""

_FORMER_FORMAT = "neardup-terms-1"
"""That of release 0.1, which made the same terms, but whose fingerprint covered two limits of the search."""


@dataclass(frozen=True, eq=False)
class TermSettings:
    """How a search embedding becomes terms."""

    dimension: int
    seed: int
    bits: int
    """Length of the Hamming code that the groups draw from."""
    groups: int
    bits_per_group: int
    centre: NDArray[np.float32] | None = field(default=None, repr=False)
    """Subtracted from each vector; None: no centring."""
    signed_sqrt: bool = False
    """Whether vectors are first replaced by their signed square roots; the centre is then the mean of these."""
    normalise: bool = False
    """Whether vectors are divided by their Euclidean norms before anything else."""

    def __post_init__(self) -> None:
        """Checks every value against its range and against the others."""
        if not 1 <= self.bits_per_group <= min(MAX_BITS_PER_GROUP, self.bits):
            raise SettingsError(
                f"bits_per_group must lie in 1 to {min(MAX_BITS_PER_GROUP, self.bits)}, not {self.bits_per_group}"
            )
        if not 1 <= self.groups <= MAX_GROUPS:
            raise SettingsError(f"groups must lie in 1 to {MAX_GROUPS}, not {self.groups}")
        object.__setattr__(self, "centre", frozen_centre(self.centre, self.dimension))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of everything that terms depend on; draws the hyperplanes."""
        return self.build().fingerprint

    def build(self) -> TermExtractor:
        """The extractor with these settings."""
        return TermExtractor(self)

    def describe(self) -> dict[str, int | str]:
        """The settings as plain values, for messages and headers; the centre by its checksum."""
        described: dict[str, int | str] = {
            "dimension": self.dimension,
            "seed": self.seed,
            "bits": self.bits,
            "groups": self.groups,
            "bits_per_group": self.bits_per_group,
            "centre": centre_checksum(self.centre),
        }
        root, unit = {"root": "yes"} if self.signed_sqrt else {}, {"normalise": "yes"} if self.normalise else {}
        return described | root | unit


class TermExtractor:
    """Turns vectors into terms. Immutable; may be shared between threads."""

    def __init__(self, settings: TermSettings) -> None:
        """Draws hyperplanes and groups."""
        self.settings = settings
        self.hyperplanes = Hyperplanes(settings.dimension, settings.bits, settings.seed, settings.centre)
        self.positions = _draw_groups(settings)
        """(groups, bits_per_group) positions in the Hamming code, read-only."""
        used, slots = np.unique(self.positions, return_inverse=True)
        self._planes = self.hyperplanes.columns(used)
        self._slots = _padded(slots.reshape(self.positions.shape) + 1)
        self.fingerprint = self._digest(_FORMAT, settings.describe())
        """SHA-256 (hex) of settings, hyperplanes and groups."""

    def terms(self, vectors: ArrayLike) -> NDArray[np.uint32]:
        """The group values of vectors.

        Args:
            vectors: (n, dimension), float16 or float32; n may be 0.

        Returns:
            (n, groups), each below 2^bits_per_group; each row depends on its own vector alone.

        Raises:
            BadInputError: The shape does not fit, or a value is not finite.
        """
        rounded = self.hyperplanes.quantise(self._rows(vectors), roots=self.settings.signed_sqrt)
        # Groups draw some positions several times and others never: about a fifth of the hyperplanes is not needed.
        bits = np.zeros((len(rounded), self._planes.shape[1] + 1), np.bool_)
        np.greater(rounded @ self._planes, 0, out=bits[:, 1:])
        packed = np.packbits(bits.take(self._slots.ravel(), axis=1), axis=1)
        packed = packed.reshape(len(bits), len(self._slots), self._slots.shape[1] // 8)
        terms = packed[..., 0].astype(np.uint32)
        for byte in range(1, packed.shape[2]):
            terms = (terms << np.uint32(8)) | packed[..., byte]
        return terms

    def bits(self, vectors: ArrayLike) -> NDArray[np.bool_]:
        """The Hamming codes that the groups draw from: (n, dimension) to (n, bits).

        Raises:
            BadInputError: The shape does not fit, or a value is not finite.
        """
        return self.hyperplanes.bits(self._rows(vectors), roots=self.settings.signed_sqrt)

    def _rows(self, vectors: ArrayLike) -> NDArray[np.float32]:
        rows = checked_rows(vectors, self.settings.dimension)
        return unit_rows(rows) if self.settings.normalise else rows

    def former_fingerprint(self, min_overlap: int, candidates: int) -> str:
        """The fingerprint that release 0.1 gave an index of the same terms and with these limits of its search."""
        limits: dict[str, int | str] = {"min_overlap": min_overlap, "candidates": candidates}
        return self._digest(_FORMER_FORMAT, self.settings.describe() | limits)

    def _digest(self, name: str, described: dict[str, int | str]) -> str:
        digest = hashlib.sha256(name.encode())
        digest.update(json.dumps(described, sort_keys=True).encode())
        digest.update(self.hyperplanes.fingerprint.encode())
        digest.update(self.positions.astype("<u4").tobytes())
        return digest.hexdigest()


def same_term_probability(bits: int, bits_per_group: int, distance: int) -> float:
    """The probability that one group contains none of the `distance` positions in which two codes differ."""
    return comb(bits - distance, bits_per_group) / comb(bits, bits_per_group)


def found_probability(settings: TermSettings, distance: int, min_overlap: int = 1) -> float:
    """The probability that two images at a bit distance share at least `min_overlap` terms."""
    return 1.0 - missed_probability(settings, distance, min_overlap)


def missed_probability(settings: TermSettings, distance: int, min_overlap: int = 1) -> float:
    """The probability that two images at a bit distance share fewer than `min_overlap` terms.

    Groups are drawn independently of each other, so the number of shared terms is binomial.

    Raises:
        SettingsError: The distance lies outside 0 to `bits`.
    """
    if not 0 <= distance <= settings.bits:
        raise SettingsError(f"a bit distance must lie in 0 to {settings.bits}, not {distance}")
    shared = same_term_probability(settings.bits, settings.bits_per_group, distance)
    return float(
        sum(
            comb(settings.groups, terms) * shared**terms * (1.0 - shared) ** (settings.groups - terms)
            for terms in range(min_overlap)
        )
    )


def jaccard(overlap: int, groups: int) -> float:
    """The Jaccard index of the term sets of two images that share `overlap` terms."""
    return overlap / (2 * groups - overlap)


def expected_overlap(cosine: float, groups: int, bits_per_group: int) -> float:
    """The expected number of shared terms for a cosine of the centred embeddings, over hyperplanes and groups.

    A random hyperplane separates two vectors at an angle t with probability t / pi (Goemans and Williamson, 1995).
    """
    return groups * (1.0 - acos(max(-1.0, min(1.0, cosine))) / pi) ** bits_per_group


def _draw_groups(settings: TermSettings) -> NDArray[np.intp]:
    # Another random stream than the hyperplanes'. RandomState, because numpy guarantees that its stream never changes.
    random = np.random.RandomState([settings.seed, 1])
    rows = [
        np.argsort(random.random_sample(settings.bits), kind="stable")[: settings.bits_per_group]
        for _ in range(settings.groups)
    ]
    positions: NDArray[np.intp] = np.stack(rows)
    positions.flags.writeable = False
    return positions


def _padded(slots: NDArray[np.intp]) -> NDArray[np.intp]:
    """The slots of the groups (groups, bits), each with as many zeros before it as fill whole bytes."""
    groups, bits = slots.shape
    padded = np.zeros((groups, -(-bits // 8) * 8), np.intp)
    padded[:, padded.shape[1] - bits :] = slots
    return padded
