"""The scorer as an interface: what a loaded model is, and what loads one. TensorFlow is one implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from scoring.card import ModelCard
from scoring.features import as_codes

__all__ = ["ModelLoader", "PairModel"]


class PairModel(ABC):
    """A loaded model. Scores are symmetric and depend on the pair alone, never on its batch.

    Implementations fill `_score`; it may be called by several threads at once.
    """

    def __init__(self, card: ModelCard) -> None:
        """Keeps the card."""
        self.card = card

    def score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities that pairs of images are near-duplicates.

        Args:
            left: Packed codes (n, code_bytes) uint8; n may be 0.
            right: The others, of the same shape.

        Returns:
            (n) float32 in 0..1.

        Raises:
            BadInputError: The shapes do not fit.
        """
        one, other = as_codes(left, self.card.code_bytes), as_codes(right, self.card.code_bytes)
        if len(one) != len(other):
            raise BadInputError(f"{len(one)} codes cannot be paired with {len(other)}")
        if not len(one):
            return np.empty(0, dtype=np.float32)
        return self._score(one, other)

    def warm_up(self) -> None:
        """Makes the first real call as fast as the later ones; optional."""
        return

    @abstractmethod
    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores at least one pair; the shapes are checked."""


class ModelLoader(Protocol):
    """Opens the model in the folder of one version."""

    def __call__(self, folder: Path, card: ModelCard) -> PairModel:
        """Loads it.

        Raises:
            BadInputError: Its files are missing or damaged.
            MismatchError: It is for codes of another length than the card says.
        """
        ...
