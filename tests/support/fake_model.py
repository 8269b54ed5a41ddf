"""A model without TensorFlow: scores are one minus the share of differing bits."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.types import Thresholds
from scoring.card import ModelCard, write_card
from scoring.features import hamming_distances
from scoring.model import PairModel

BITS = 64
CODES = "code"
LIMITS = Thresholds(accept=0.75, head_accept=0.5, adopt=0.625)


class FakeModel(PairModel):
    """Counts its batches; can be made to fail, or to hold until it is let go."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.warm = False

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> FakeModel:
        del folder
        return cls(card)

    def warm_up(self) -> None:
        self.warm = True

    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.entered.set()
        if not self.gate.wait(10):
            raise TimeoutError("nobody let the model go")
        self.batches.append(len(left))
        if self.error is not None:
            raise self.error
        return expected_scores(left, right)


def expected_scores(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a `FakeModel` gives."""
    return (1 - hamming_distances(left, right) / (8 * left.shape[-1])).astype(np.float32)


def card(
    version: str = "v1",
    thresholds: Thresholds = LIMITS,
    bits: int = BITS,
    fingerprint: str = CODES,
    gate: int | None = None,
) -> ModelCard:
    """A card that holds together."""
    return ModelCard(
        version=version,
        bits=bits,
        code_fingerprint=fingerprint,
        embedding_name="net",
        embedding_version="1",
        thresholds=thresholds,
        gate=gate,
    )


def write_version(
    folder: Path,
    version: str,
    thresholds: Thresholds = LIMITS,
    bits: int = BITS,
    fingerprint: str = CODES,
    gate: int | None = None,
) -> None:
    """A version's folder with a card and nothing else."""
    (folder / version).mkdir(parents=True)
    write_card(card(version, thresholds, bits, fingerprint, gate), folder / version)


def random_codes(pairs: int, seed: int = 0, code_bytes: int = BITS // 8) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of random pairs."""
    random = np.random.RandomState(seed)
    left, right = random.randint(0, 256, (2, pairs, code_bytes)).astype(np.uint8)
    return left, right
