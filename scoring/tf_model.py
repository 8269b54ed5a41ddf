"""A model in TensorFlow: a SavedModel that scores padded batches of score codes.

The graph's arithmetic is exact (`training.exact_network`). So a pair's score is the same in every shape, at every
position, with any number of threads. Batches are still padded to a few shapes, for two reasons: each shape is compiled
once, and the sigmoid at the end rounds differently for rows that do not fill a vector register.

XLA compiles networks of moderate size; it fuses all steps between the matrix products. For serving, each batch runs on
one thread, and several batches run at a time. Threads that share every small product would wait for each other at its
end (two cores, 135,361 parameters: 385,000 pairs/s with a batch per thread, 281,000 with both threads on one batch).

A batch of 1,024 pairs with 256 values, 128 and 32 units takes 2.0 ms of one core: the first product 1.2 ms (109
GFLOP/s, near the core's limit), the rest in float64 0.35 ms, the inputs 0.3 ms, the call 0.14 ms. Batches of 512 take
9 % more per pair; batches of 2,048 no longer fit the cache and take 11 % more. Inputs in int16 or int32, a first
product cut in two, a transposed second product: none of these was faster.

On a graphics card, TensorFlow runs products in mixed precision (inputs of 10 binary digits, sums in float32). That is
fast but not exact: there a score may change with its batch. On the processor it never does.
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

# Before the first import: its messages about graphics cards and instruction sets do not help the operator of a scorer.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if "keras" not in sys.modules:
    # TensorFlow imports Keras, which imports scikit-learn and matplotlib: 2.6 s of processor time and much memory that
    # a graph does not need. The legacy Keras is not installed, and TensorFlow starts without it.
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf

from scoring.saved_model import check_saved_model

log = logging.getLogger(__name__)

SIGNATURE = "serving_default"
INPUT_LEFT = "left"
INPUT_RIGHT = "right"
OUTPUT = "probability"

SHAPES = (16, 128, 256, 512, 1024)
"""Rows of padded batches, ascending. They are multiples of 16, so that rows fill whole vector registers."""

COMPILED_PARAMETERS = 1_000_000
"""Larger networks are not compiled: their products take nearly all of the time, and XLA compiles them slowly."""


class TfPairModel(PairModel):
    """A loaded SavedModel."""

    batch_pairs = SHAPES[-1]

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> Self:
        """Loads the SavedModel of a version, after a check that its graph only computes.

        Raises:
            BadInputError: It cannot be opened, holds an operation that is not allowed, or lacks the signature
                `SIGNATURE`.
            MismatchError: It takes codes of another length than the card says.
        """
        check_saved_model(folder)
        try:
            loaded = tf.saved_model.load(os.fspath(folder))
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            raise BadInputError(f"the model {card.version} in {folder} cannot be opened: {error}") from error
        return cls(card, loaded)

    @classmethod
    def configure(cls, threads: int) -> None:
        """Lets `threads` batches run at a time, each on the thread that calls `score`.

        Call it before TensorFlow's first operation in this process; later it only warns.
        """
        _limit(1, threads)
        cards = tf.config.list_physical_devices("GPU")
        if cards:
            tf.config.experimental.enable_tensor_float_32_execution(True)
            log.warning(
                "scores come from %d graphics card(s), in mixed precision: they may change with the batch", len(cards)
            )

    def __init__(self, card: ModelCard, loaded: Any) -> None:
        """Takes the module that `tf.saved_model.load` returned.

        Raises:
            BadInputError: It lacks the signature `SIGNATURE`.
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
        """How many operations of a kind (such as `MatMul`) the graph has."""
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

        # This skips TensorFlow's check of the arguments: 0.1 of 0.45 ms for a batch of 128 pairs.
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

    The largest shape is used as often as it can be filled, then the smallest shape that holds the rest.
    """
    slices, start, largest = [], 0, shapes[-1]
    while pairs - start >= largest:
        slices.append((start, start + largest, largest))
        start += largest
    if start < pairs:
        slices.append((start, pairs, next(rows for rows in shapes if rows >= pairs - start)))
    return slices


def limit_threads(threads: int) -> None:
    """Limits TensorFlow to `threads` threads per operation.

    Call it before TensorFlow's first operation in this process. Later it only warns, as no score depends on it.
    """
    _limit(threads, threads)


def _limit(within: int, between: int) -> None:
    if tf.config.threading.get_intra_op_parallelism_threads() == within:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(within)
        tf.config.threading.set_inter_op_parallelism_threads(between)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or "as many as cores"
        log.warning("TensorFlow already runs, with %s threads per operation instead of %d", running, within)


def _pad(codes: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    if len(codes) == rows:
        return codes
    padded = np.zeros((rows, codes.shape[1]), dtype=np.uint8)
    padded[: len(codes)] = codes
    return padded
