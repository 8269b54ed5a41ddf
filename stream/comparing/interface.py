"""One side of a comparison: any system that has put images into clusters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClusteredRows", "Clustering"]


@dataclass(frozen=True, slots=True, eq=False)
class ClusteredRows:
    """n rows."""

    image_ids: Sequence[str]
    versions: NDArray[np.int64]
    """(n,) Of several rows of an image, the one with the highest version counts."""
    clusters: Sequence[str | None]
    """The head of each image, or any name of its cluster; None: a row with a higher version has it."""
    done: int
    """How many rows were read, these included."""
    total: int | None
    """Of how many; None: not known."""


class Clustering(ABC):
    """Images and their clusters."""

    name: str
    """As a user reads it."""

    @abstractmethod
    def rows(self) -> Iterator[ClusteredRows]:
        """All rows, in bounded memory. They are read once.

        Raises:
            BadInputError: A value is wrong; the message names it.
            MismatchError: A file is not the one that a manifest names, or was made for other settings.
            UnavailableError: It does not answer.
        """

    def moment(self) -> str:
        """After reading: as of when this is; empty: it does not change."""
        return ""
