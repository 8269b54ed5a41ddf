"""A model in TensorFlow: a SavedModel that scores padded batches of packed codes.

The graph's arithmetic is exact (`search.scoring.exact_network`), so a pair's score is the same in every shape, at every
position, with any number of threads. Batches are still padded to few shapes: TensorFlow plans memory per shape, and
the last step, a sigmoid, takes a slightly different path for a remainder that does not fill a vector register.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import BadInputError, MismatchError
from search.scoring.card import ModelCard
from search.scoring.model import PairModel

__all__ = [
    "INPUT_LEFT",
    "INPUT_RIGHT",
    "OUTPUT",
    "SHAPES",
    "SIGNATURE",
    "TfPairModel",
    "limit_threads",
    "load_tf",
    "padded_slices",
]

# Before the first import: the messages about graphics cards and instruction sets say nothing to who runs a scorer.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

log = logging.getLogger(__name__)

SIGNATURE = "serving_default"
INPUT_LEFT = "left"
INPUT_RIGHT = "right"
OUTPUT = "probability"

SHAPES = (16, 128, 1024)
"""The rows of a padded batch, ascending; multiples of 16, so that every row fills its part of a vector register."""


class TfPairModel(PairModel):
    """A loaded SavedModel."""

    def __init__(self, card: ModelCard, loaded: Any) -> None:
        """Takes the module that `tf.saved_model.load` gave.

        Raises:
            BadInputError: It has no such signature.
            MismatchError: Its codes are not as long as the card says; the message has both values.
        """
        super().__init__(card)
        self._module = loaded
        self._signature = loaded.signatures.get(SIGNATURE)
        if self._signature is None:
            raise BadInputError(f"the model {card.version} has no signature {SIGNATURE!r}")
        inputs = self._signature.structured_input_signature[1]
        for name in (INPUT_LEFT, INPUT_RIGHT):
            width = inputs[name].shape[-1] if name in inputs else None
            if width != card.code_bytes:
                raise MismatchError(
                    f"the graph of the model {card.version} takes codes of {width} bytes ({name}), its card says "
                    f"{card.code_bytes}"
                )

    def warm_up(self) -> None:
        """Runs every shape once."""
        for rows in SHAPES:
            codes = np.zeros((rows, self.card.code_bytes), dtype=np.uint8)
            self._run(codes, codes)

    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores = np.empty(len(left), dtype=np.float32)
        for start, stop, rows in padded_slices(len(left)):
            padded = self._run(_pad(left[start:stop], rows), _pad(right[start:stop], rows))
            scores[start:stop] = padded[: stop - start]
        return scores

    def _run(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer = self._signature(left=tf.constant(left), right=tf.constant(right))
        probabilities: NDArray[np.float32] = answer[OUTPUT].numpy()
        return probabilities


def padded_slices(pairs: int, shapes: tuple[int, ...] = SHAPES) -> list[tuple[int, int, int]]:
    """How a batch is cut: (start, stop, rows of the padded shape), covering 0..pairs in order.

    The largest shape as long as it fills, then the smallest that takes what is left.
    """
    slices, start, largest = [], 0, shapes[-1]
    while pairs - start >= largest:
        slices.append((start, start + largest, largest))
        start += largest
    if start < pairs:
        slices.append((start, pairs, next(rows for rows in shapes if rows >= pairs - start)))
    return slices


def load_tf(folder: Path, card: ModelCard) -> PairModel:
    """Loads the SavedModel of a version.

    Raises:
        BadInputError: It cannot be opened, or is no such model.
        MismatchError: It is for codes of another length than the card says.
    """
    try:
        loaded = tf.saved_model.load(os.fspath(folder))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise BadInputError(f"the model {card.version} in {folder} cannot be opened: {error}") from error
    return TfPairModel(card, loaded)


def limit_threads(threads: int) -> None:
    """Limits TensorFlow to so many threads within an operation.

    It must come before TensorFlow's first operation in this process; later it only warns, as no score depends on it.
    """
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or "as many threads as there are cores"
        log.warning("TensorFlow runs already, with %s: %d were asked for", running, threads)


def _pad(codes: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    if len(codes) == rows:
        return codes
    padded = np.zeros((rows, codes.shape[1]), dtype=np.uint8)
    padded[: len(codes)] = codes
    return padded
