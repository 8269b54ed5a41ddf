"""The TensorFlow model, which fails on every batch while a file exists: a scorer that answers, but cannot score."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scoring.tf_model import TfPairModel

SWITCH_VARIABLE = "FAULTY_MODEL_SWITCH"
"""The environment variable that names the file."""


class FaultyModel(TfPairModel):
    """Name it in the settings as `model_class`."""

    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        if Path(os.environ[SWITCH_VARIABLE]).exists():
            raise RuntimeError("the model was made to fail")
        return super()._score(left, right)
