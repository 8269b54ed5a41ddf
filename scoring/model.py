"""The scorer as an interface: load a model once, score batches of pairs, say how large a batch should be.

TensorFlow is one implementation (`scoring.tf_model`). Another is a subclass of `PairModel` that the settings name
(`model_class`); `docs/extending.md` shows one.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, SettingsError
from core.plugins import load_plugin
from scoring.card import ModelCard
from scoring.features import as_codes

__all__ = ["MODELS_GROUP", "PairModel", "model_class"]

MODELS_GROUP = "neardup.models"
"""The group of entry points under which packages declare model classes."""

_OURS = {"tensorflow": "scoring.tf_model:TfPairModel"}
"""Our own entry points, which are thus also found where the project is not installed but on the path."""


class PairModel(ABC):
    """A loaded model. Scores are symmetric and depend on the pair alone, never on its batch.

    Subclasses implement `load` and `_score`. Several threads may call `score` at once.
    """

    batch_pairs: ClassVar[int] = 1024
    """Pairs per call of `score` that suit the model best: the server's largest batch, unless its settings say less."""

    def __init__(self, card: ModelCard) -> None:
        """Keeps the card."""
        self.card = card

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, card: ModelCard) -> Self:
        """Opens the model in the folder of one version. The files are already checked against the card.

        Raises:
            BadInputError: The files cannot be opened.
            MismatchError: The model takes codes of another length than the card says.
        """

    @classmethod
    def configure(cls, threads: int) -> None:
        """Prepares this process to run `threads` batches at a time. Called once, before the first `load`; optional."""
        return

    def warm_up(self) -> None:
        """Makes the first call of `score` as fast as the later ones; optional."""
        return

    def score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities that pairs of images are near-duplicates.

        Args:
            left: Packed score codes (n, code_bytes) uint8; n may be 0.
            right: The codes of the other images, of the same shape.

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

    @abstractmethod
    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores at least one pair; the shapes are checked."""


def model_class(name: str = "tensorflow") -> type[PairModel]:
    """The class that loads and runs models, by the name of an entry point or as `module:Class`.

    Raises:
        SettingsError: Nothing has this name, or it is no complete subclass of `PairModel`.
    """
    found = load_plugin(MODELS_GROUP, _OURS.get(name, name))
    if not (isinstance(found, type) and issubclass(found, PairModel)):
        raise SettingsError(f"{name} is no subclass of scoring.model.PairModel, but {found!r}")
    if inspect.isabstract(found):
        raise SettingsError(f"{name} does not implement {', '.join(sorted(found.__abstractmethods__))}")
    return found
