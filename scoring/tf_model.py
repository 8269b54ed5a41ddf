"""A model in TensorFlow: a SavedModel that scores padded batches of score codes.

The graph's arithmetic is exact (`training.exact_network`), so a pair's score is the same in every shape, at every
position, with any number of threads. Batches are still padded to few shapes: each is compiled once, and the last step,
a sigmoid, takes a slightly different path for a remainder that does not fill a vector register.

A network of moderate size is compiled by XLA, which fuses all steps between the matrix products. For serving, each
batch runs on one thread and several batches run at a time: threads that share every small product wait for each other
at its end (measured on two cores with 135,361 parameters: 385,000 pairs/s with a batch each, 281,000 with one between
them).

What 1,024 pairs of 256 values and 128 and 32 units take of one core, 2.0 ms: the first product 1.2 (109 GFLOP/s, near
what the core can), the rest in float64 0.35, the inputs 0.3, the call 0.14. Batches of 512 take 9 % more a pair, of
2,048, which leave the cache, 11 %. Inputs made in int16 or int32, one and the same first product cut in two, the second
transposed: none was faster.

On a graphics card, where TensorFlow sees one, products run in mixed precision (inputs of 10 binary digits, sums in
float32), which is fast and not exact: there a score may change with its batch. On the processor it never does.
"""

from __future__ import annotations

import logging
import os
import sys
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, MismatchError
from scoring.card import ModelCard
from scoring.model import PairModel

__all__ = [
    "INPUT_LEFT",
    "INPUT_RIGHT",
    "OUTPUT",
    "SHAPES",
    "SIGNATURE",
    "TfPairModel",
    "limit_threads",
    "padded_slices",
]

# Before the first import: the messages about graphics cards and instruction sets say nothing to who runs a scorer.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "keras" not in sys.modules:
    # TensorFlow imports Keras, and Keras scikit-learn and matplotlib: 2.6 s of processor time and much memory, for what
    # a graph does not need. Its former Keras, which is not installed, it does without.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf

log = logging.getLogger(__name__)

SIGNATURE = "serving_default"
INPUT_LEFT = "left"
INPUT_RIGHT = "right"
OUTPUT = "probability"

SHAPES = (16, 128, 256, 512, 1024)
"""The rows of a padded batch, ascending; multiples of 16, so that every row fills its part of a vector register."""

COMPILED_PARAMETERS = 1_000_000
"""Larger networks run as they are: their products take nearly all of the time, and XLA takes long to compile them."""


class TfPairModel(PairModel):
    """A loaded SavedModel."""

    batch_pairs = SHAPES[-1]

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> Self:
        """Loads the SavedModel of a version.

        Raises:
            BadInputError: It cannot be opened, or has no such signature.
            MismatchError: It takes codes of another length than the card says.
        """
        try:
            loaded = tf.saved_model.load(os.fspath(folder))
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise BadInputError(f"the model {card.version} in {folder} cannot be opened: {error}") from error
        return cls(card, loaded)

    @classmethod
    def configure(cls, threads: int) -> None:
        """Lets `threads` batches run at a time, each on the thread that asks for it.

        It must come before TensorFlow's first operation in this process; later operations keep the threads they have.
        """
        _limit(1, threads)
        cards = tf.config.list_physical_devices("GPU")
        if cards:
            tf.config.experimental.enable_tensor_float_32_execution(True)
            log.warning(
                "scores come from %d graphics card(s), in mixed precision: they may change with the batch", len(cards)
            )

    def __init__(self, card: ModelCard, loaded: Any) -> None:
        """Takes the module that `tf.saved_model.load` gave.

        Raises:
            BadInputError: It has no such signature.
            MismatchError: Its codes are not as long as the card says; the message has both values.
        """
        super().__init__(card)
        self._module = loaded
        self._compiled: dict[int, Any] = {}
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

    def operations(self, kind: str) -> int:
        """How many operations of a kind (`MatMul`) the graph has."""
        graph = self._signature.graph.as_graph_def()
        nodes = chain(graph.node, *(function.node_def for function in graph.library.function))
        return sum(node.op == kind for node in nodes)

    def warm_up(self) -> None:
        """Compiles every shape and runs it once."""
        for rows in SHAPES:
            if self.card.parameters <= COMPILED_PARAMETERS and rows not in self._compiled:
                self._compiled[rows] = self._compile(rows)
            codes = np.zeros((rows, self.card.code_bytes), dtype=np.uint8)
            self._run(codes, codes)

    def _compile(self, rows: int) -> Any:
        codes = tf.TensorSpec((rows, self.card.code_bytes), tf.uint8)

        @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
        def score(left: Any, right: Any) -> Any:
            return self._signature(left=left, right=right)[OUTPUT]

        # Past the check of arguments that a call by Python's rules gets: 0.1 of 0.45 ms for a batch of 128 pairs.
        return score.get_concrete_function(codes, codes).inference_fn.call_flat

    def _score(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        scores = np.empty(len(left), dtype=np.float32)
        for start, stop, rows in padded_slices(len(left)):
            padded = self._run(_pad(left[start:stop], rows), _pad(right[start:stop], rows))
            scores[start:stop] = padded[: stop - start]
        return scores

    def _run(self, left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        compiled = self._compiled.get(len(left))
        one, other = tf.constant(left), tf.constant(right)
        answer = self._signature(left=one, right=other)[OUTPUT] if compiled is None else compiled(one, other)[0]
        probabilities: NDArray[np.float32] = answer.numpy()
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


def limit_threads(threads: int) -> None:
    """Limits TensorFlow to so many threads within an operation.

    It must come before TensorFlow's first operation in this process; later it only warns, as no score depends on it.
    """
    _limit(threads, threads)


def _limit(within: int, between: int) -> None:
    if tf.config.threading.get_intra_op_parallelism_threads() == within:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(within)
        tf.config.threading.set_inter_op_parallelism_threads(between)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or "as many threads as there are cores"
        log.warning("TensorFlow runs already, with %s: %d were asked for", running, within)


def _pad(codes: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    if len(codes) == rows:
        return codes
    padded = np.zeros((rows, codes.shape[1]), dtype=np.uint8)
    padded[: len(codes)] = codes
    return padded
