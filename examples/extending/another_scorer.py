"""Another scorer: the share of equal Hamming bits of two score codes, in numpy alone.

Run with a folder of models as its argument, this file adds the version `hamming` to it. To serve that, put this file on
the Python path and set `model_class = "another_scorer:HammingModel"`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.types import Thresholds
from scoring.card import ModelCard, write_card
from scoring.model import PairModel
from scoring.model_folder import ModelFolder


class HammingModel(PairModel):
    """Scores are 1 for equal bits and 0.5 for unrelated ones. It has no weights: a version is a card alone."""

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> HammingModel:
        return cls(card)

    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        bits = self.card.bits  # a code's signed values come after its bits
        equal = np.bitwise_count(~(left ^ right)[:, : bits // 8]).sum(axis=1)
        scores: NDArray[np.float32] = np.divide(equal, bits, dtype=np.float32)
        return scores


def add_version(models: ModelFolder) -> None:
    """Adds the version `hamming` for the codes of the served model, with thresholds in units of this score."""
    limits = Thresholds(accept=0.8125, head_accept=0.75, adopt=0.8125)
    served = models.card(models.served())
    folder = models.path("hamming")
    folder.mkdir()
    write_card(replace(served, version="hamming", thresholds=limits, files_sha256={}, parameters=0), folder)


if __name__ == "__main__":
    add_version(ModelFolder(Path(sys.argv[1])))
