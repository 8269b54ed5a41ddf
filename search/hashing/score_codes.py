"""Score codes: the bytes that the index keeps for each image, and that the classifier compares.

    bits, eight to a byte, whose hamming distance orders the candidates of a search
    values of a fitted projection (`search.hashing.fitted_projection`), one signed byte each, if the settings name one

The bits are sides of random hyperplanes of the score embedding (`search.hashing.projection`), or the signs of the
values: learnt directions tell copies from strangers with half the bits. The projection takes the score embedding, or
both embeddings, because two networks err on different pairs. For index and storage a code is a byte string of fixed
length.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.errors import BadInputError, SettingsError
from core.vectors import unit_rows
from search.hashing.fitted_projection import FittedProjection
from search.hashing.projection import Hyperplanes, centre_checksum, checked_rows, frozen_centre

__all__ = ["CodeSettings", "ScoreCodes"]


@dataclass(frozen=True, eq=False)
class CodeSettings:
    """How the embeddings of an image become the code that the classifier compares."""

    dimension: int
    """Elements of the score embedding."""
    bits: int
    """A multiple of 8."""
    seed: int
    centre: NDArray[np.float32] | None = field(default=None, repr=False)
    """Subtracted before the bits are made; None: no centring."""
    projection: FittedProjection | None = field(default=None, repr=False)
    """Gives the values after the bits; None: there are none."""
    search_dimension: int = 0
    """Elements of the search embedding, which the projection takes after the score embedding; 0: it takes none."""
    signs: bool = False
    """Whether the bits are the signs of the projection's values. Hyperplanes, seed and centre are not used then."""
    normalise: bool = False
    """Whether score embeddings are divided by their Euclidean norms before anything else."""
    normalise_search: bool = False
    """The same of search embeddings; without effect if the projection takes none."""

    def __post_init__(self) -> None:
        """Checks that codes fill whole bytes and that centre and projection fit."""
        if self.bits < 8 or self.bits % 8:
            raise SettingsError(f"score codes need a multiple of 8 bits, not {self.bits}")
        if self.projection is not None and self.projection.dimension != self.dimension + self.search_dimension:
            with_search = f" and search embeddings {self.search_dimension}" if self.search_dimension else ""
            raise SettingsError(
                f"the fitted projection takes {self.projection.dimension} elements, score embeddings have "
                f"{self.dimension}{with_search}"
            )
        if self.signs and self.projection is not None and self.bits != self.projection.size:
            raise SettingsError(
                f"with `signs` each value of the projection gives one bit: bits must be {self.projection.size}, not "
                f"{self.bits}"
            )
        object.__setattr__(self, "centre", frozen_centre(self.centre, self.dimension))

    @property
    def values(self) -> int:
        """Signed bytes after the bits."""
        return self.projection.size if self.projection is not None else 0

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.bits // 8 + self.values

    def projected(self, score: NDArray[np.float32], search: NDArray[np.float32]) -> NDArray[np.float32]:
        """The input of the projection for the embeddings (n, elements) of some images."""
        score = self.score_rows(score)
        if not self.search_dimension:
            return score
        return np.hstack([score, unit_rows(search) if self.normalise_search else search])

    def score_rows(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score embeddings (n, dimension) as the bits are made of them, before the centre is subtracted."""
        return unit_rows(score) if self.normalise else score

    def build(self) -> ScoreCodes:
        """The maker of codes with these settings; its `fingerprint` names it.

        Raises:
            SettingsError: The bits are signs, and there is no projection.
        """
        return ScoreCodes(self)

    def describe(self) -> dict[str, int | str]:
        """The settings as plain values, for messages and headers; centre and projection by their checksums."""
        described: dict[str, int | str] = {"dimension": self.dimension, "bits": self.bits}
        if self.signs:
            described["signs"] = "yes"
        else:
            described |= {"seed": self.seed, "centre": centre_checksum(self.centre)}
        if self.projection is not None:
            described |= {"values": self.values, "projection": self.projection.fingerprint[:16]}
        if self.search_dimension:
            described["search_dimension"] = self.search_dimension
        return described | self._units()

    def _units(self) -> dict[str, int | str]:
        """What is normalised; empty where nothing is, so that fingerprints without it stay what they were."""
        search = self.normalise_search and self.search_dimension
        units: dict[str, int | str] = {"normalise": "yes"} if self.normalise else {}
        return units | ({"normalise_search": "yes"} if search else {})

    def identified(self, fingerprint: str) -> str:
        """A fingerprint of bits and values, with what else the codes depend on."""
        units = self._units()
        if not units:
            return fingerprint
        return hashlib.sha256(f"{fingerprint} {' '.join(sorted(units))}".encode()).hexdigest()


class ScoreCodes:
    """Turns embeddings into codes. Immutable; may be shared between threads."""

    def __init__(self, settings: CodeSettings) -> None:
        """Draws the hyperplanes, unless the bits are signs."""
        if settings.signs and settings.projection is None:
            raise SettingsError("with `signs` the bits are those of a fitted projection: name one in `projection`")
        self.settings = settings
        self.hyperplanes = (
            None if settings.signs else Hyperplanes(settings.dimension, settings.bits, settings.seed, settings.centre)
        )
        self.fingerprint = self._fingerprint()
        """SHA-256 (hex) of everything that a code depends on."""

    @property
    def dimension(self) -> int:
        """Elements of a score embedding."""
        return self.settings.dimension

    @property
    def code_bytes(self) -> int:
        """Bytes of one code."""
        return self.settings.code_bytes

    def codes(self, score: ArrayLike, search: ArrayLike) -> NDArray[np.uint8]:
        """The codes of images.

        Args:
            score: Their score embeddings (n, dimension), float16 or float32; n may be 0.
            search: Their search embeddings (n, search_dimension); not used if the projection takes none.

        Returns:
            (n, code_bytes) uint8; each row depends on its own image alone.

        Raises:
            BadInputError: A shape does not fit, or a value is not finite (the message names the row).
        """
        projection = self.settings.projection
        if projection is None:
            return self.bits(score, search)
        rows = self._rows(score)
        values = projection.values(*self._parts(rows, search))
        bits = np.packbits(values > 0, axis=1) if self.hyperplanes is None else self.hyperplanes.codes(rows)
        return np.hstack([bits, values.view(np.uint8)])

    def bits(self, score: ArrayLike, search: ArrayLike) -> NDArray[np.uint8]:
        """The bits of codes alone, (n, bits // 8); see `codes`."""
        if self.hyperplanes is None:
            return self.codes(score, search)[:, : self.settings.bits // 8]
        return self.hyperplanes.codes(self._rows(score))

    def _rows(self, score: ArrayLike) -> NDArray[np.float32]:
        return self.settings.score_rows(checked_rows(score, self.dimension))

    def _parts(self, rows: NDArray[np.float32], search: ArrayLike) -> list[NDArray[np.float32]]:
        """What the projection takes: the score embeddings, and the search embeddings if it takes them."""
        settings, parts = self.settings, [rows]
        if settings.search_dimension:
            others = checked_rows(search, settings.search_dimension)
            if len(others) != len(rows):
                raise BadInputError(
                    f"{len(rows)} score embeddings and {len(others)} search embeddings are not of the same images"
                )
            parts.append(unit_rows(others) if settings.normalise_search else others)
        return parts

    def _fingerprint(self) -> str:
        projection = self.settings.projection
        bits = "signs" if self.hyperplanes is None else self.hyperplanes.fingerprint
        if projection is None:
            return self.settings.identified(bits)
        both = hashlib.sha256(f"{bits} {projection.fingerprint}".encode()).hexdigest()
        return self.settings.identified(both)
