"""The TensorFlow model, which fails on some images while a file exists: a scorer that runs, but cannot score them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scoring.tf_model import TfPairModel

SWITCH_VARIABLE = "FAULTY_MODEL_SWITCH"
"""The environment variable that names the file."""

_ONE_IN = 10
"""One image in so many cannot be scored."""


class FaultyModel(TfPairModel):
    """Name it in the settings as `model_class`."""

    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        if Path(os.environ[SWITCH_VARIABLE]).exists() and cannot_score(left).any():
            raise RuntimeError("the model was made to fail")
        return super()._score(left, right)


def cannot_score(codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which images fail, by their codes, u8[images, bytes]; the blank code of a probe does not."""
    return codes.sum(axis=1, dtype=np.int64) % _ONE_IN == _ONE_IN // 2
