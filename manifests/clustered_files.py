"""Reading clustered images from a Parquet file: what `manifests.image_files` reads, and what became of each image.

| column | type | |
| --- | --- | --- |
| `head` | string | the image that names the cluster; required, null only where a later row has the image again |
| `cause` | string: `founded`, `matched`, ... | why it is there; `bootstrapped` where missing or null |
| `probability` | float32 or float64, 0 to 1 | the score of the match |
| `matched` | string | the image that it matched |
| `place` | whole number | ascends; loading numbers the rows anew |
| `founding_code` | bytes | of a head: what later images are compared with; its own `code` where missing or null |
| `terms` | list of uint32 | read if the metadata has the fingerprint of the signal's terms, else made from `search` |
| `code` | bytes | read if the metadata has the fingerprint of the signal's code, else made from the embeddings |

All of them but `head` may be missing. `founding_code` needs the fingerprint too; with another it is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, MismatchError
from core.types import Cause
from manifests.columns import Found, Places
from manifests.image_files import ImageBatch, ImageFile, versions_of
from manifests.metadata import FileMetadata

__all__ = ["ClusteredBatch", "ClusteredFile", "IndexBatch", "Signal", "causes"]

_NEVER = (Cause.DELETED, Cause.FORGOTTEN, Cause.UNSCORED)
"""Such images are not there, or cannot be found: an index of the rows would find them."""

_CAUSES = {str(cause): cause for cause in Cause if cause not in _NEVER}


@dataclass(frozen=True, slots=True)
class Signal:
    """What the files must have been made for."""

    name: str
    """As in `FileMetadata.signal`."""
    search_dimension: int
    score_dimension: int
    terms: str
    """The fingerprint of its terms."""
    groups: int
    """Terms of an image."""
    bits_per_group: int
    code: str
    """The fingerprint of its codes."""
    code_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class ClusteredBatch:
    """n rows of a file, column by column."""

    images: ImageBatch
    heads: list[str | None]
    causes: list[Cause]
    scores: NDArray[np.float64]
    """(n,) NaN where there is none."""
    matched: list[str | None]
    founding_codes: list[bytes | None]
    terms: NDArray[np.uint32] | None
    """(n, groups) None: they are to be made from the embeddings."""
    codes: NDArray[np.uint8] | None
    """(n, code bytes) None: they are to be made from the embeddings."""


@dataclass(frozen=True, slots=True, eq=False)
class IndexBatch:
    """What an index needs of n rows of a file, column by column."""

    rows: Places
    """Which rows of the file."""
    image_ids: list[str]
    versions: NDArray[np.int64]
    """(n,)"""
    terms: NDArray[np.uint32] | None
    """(n, groups) None: they are to be made from the embeddings."""
    codes: NDArray[np.uint8] | None
    """(n, code bytes) None: they are to be made from the embeddings."""
    vectors: tuple[NDArray[Any], NDArray[Any]] | None
    """Both embeddings (n, dimension), float16 or float32; None where terms and codes are there."""


class ClusteredFile:
    """A Parquet file of clustered images."""

    def __init__(self, path: Path, signal: Signal) -> None:
        """Opens the file and checks its metadata and its columns.

        Raises:
            BadInputError: It is no such file, or a column is missing or of another type or dimension.
            MismatchError: It was made for another signal; the message has both values.
        """
        images = ImageFile(path, signal.search_dimension, signal.score_dimension)
        file = images.file
        try:
            self.metadata = FileMetadata.decoded(file.metadata)
        except BadInputError as error:
            raise BadInputError(f"{path}: {error}") from None
        if self.metadata.signal != signal.name:
            raise MismatchError(f"{path} was made for {self.metadata.signal!r}, the settings say {signal.name!r}")
        if "place" in file.names:
            images = ImageFile(path, signal.search_dimension, signal.score_dimension, with_places=True)
            file = images.file
        checks = {
            "head": file.check_texts,
            "cause": file.check_texts,
            "probability": file.check_scores,
            "matched": file.check_texts,
            "founding_code": file.check_blobs,
            "terms": file.check_lists_of_words,
            "code": file.check_blobs,
        }
        file.check_once(list(checks))
        for name, check in checks.items():
            if name == "head" or name in file.names:
                check(name)
        same = {
            "terms": self.metadata.terms == signal.terms,
            "code": self.metadata.code == signal.code,
            "founding_code": self.metadata.code == signal.code,
        }
        self.path = path
        self.rows = images.rows
        self._images = images
        self._signal = signal
        self._read = [*images.columns, *(name for name in checks if name in file.names and same.get(name, True))]
        self.has_terms = "terms" in self._read
        self.has_codes = "code" in self._read

    def batches(self, at_once: int, start: int = 0, *, terms: bool = True) -> Iterator[ClusteredBatch]:
        """The rows from number `start` on, at most `at_once` at a time; without `terms` as if the file had none.

        Raises:
            BadInputError: A value is wrong; the message names file, row and column.
        """
        for found in self.found(at_once, start, terms=terms):
            yield self.batch(found)

    def identities(self, at_once: int) -> Iterator[tuple[int, list[str], NDArray[np.int64], list[str | None]]]:
        """Of all rows the number of the first, ids, versions and heads, at most `at_once` at a time.

        Nothing else is read, so this is much faster than `batches`.

        Raises:
            BadInputError: A value is wrong; the message names file, row and column.
        """
        file = self._images.file
        for found in file.read([name for name in ("image_id", "image_version", "head") if name in file.names], at_once):
            yield found.rows.first, found.texts("image_id"), versions_of(found), found.texts("head", nullable=True)

    def found(self, at_once: int, start: int = 0, *, terms: bool = True) -> Iterator[Found]:
        """As `batches`, but values are not looked at yet: `batch` does.

        Raises:
            BadInputError: The file is damaged.
        """
        names = [name for name in self._read if terms or name != "terms"]
        return self._images.file.read(names, at_once, start)

    def index_batches(self, at_once: int, start: int = 0) -> Iterator[IndexBatch]:
        """As `batches`, of the columns that an index needs: embeddings only where terms or codes must be made.

        Raises:
            BadInputError: A value is wrong; the message names file, row and column.
        """
        needless = {"search", "score"} if self.has_terms and self.has_codes else set()
        wanted = {"image_id", "image_version", "search", "score", "terms", "code"} - needless
        for found in self._images.file.read([name for name in self._read if name in wanted], at_once, start):
            yield IndexBatch(
                rows=found.rows,
                image_ids=found.texts("image_id"),
                versions=versions_of(found),
                terms=self._terms(found),
                codes=self._codes(found),
                vectors=None if needless else self._images.vectors(found),
            )

    def batch(self, found: Found) -> ClusteredBatch:
        """Some rows of this file.

        Raises:
            BadInputError: A value is wrong; the message names file, row and column.
        """
        signal, none = self._signal, [None] * len(found)
        return ClusteredBatch(
            images=self._images.batch(found),
            heads=found.texts("head", nullable=True),
            causes=causes(found),
            scores=found.scores("probability"),
            matched=found.texts("matched", nullable=True) if found.has("matched") else list(none),
            founding_codes=found.blobs("founding_code", signal.code_bytes),
            terms=self._terms(found),
            codes=self._codes(found),
        )

    def _terms(self, found: Found) -> NDArray[np.uint32] | None:
        signal = self._signal
        return found.words("terms", signal.groups, 2**signal.bits_per_group - 1) if found.has("terms") else None

    def _codes(self, found: Found) -> NDArray[np.uint8] | None:
        return found.bytes_of("code", self._signal.code_bytes) if self.has_codes else None


def causes(found: Found) -> list[Cause]:
    """Why each of n images is where it is; `bootstrapped` where the column is missing or null.

    Raises:
        BadInputError: One is none of the known causes.
    """
    if not found.has("cause"):
        return [Cause.BOOTSTRAPPED] * len(found)
    known: list[Cause] = []
    for row, said in enumerate(found.texts("cause", nullable=True)):
        cause = Cause.BOOTSTRAPPED if said is None else _CAUSES.get(said)
        if cause is None:
            raise found.rows.error(row, "cause", f"is {said[:80]!r}, not one of {', '.join(_CAUSES)}")
        known.append(cause)
    return known
