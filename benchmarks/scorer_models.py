"""What the scorer's benchmark runs in its own process: models of given shapes, and bare matrix products."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from core.types import Thresholds
from scoring.card import ModelCard
from scoring.features import PairInputs
from scoring.model import PairModel, model_class
from scoring.model_folder import ModelFolder
from training.branches import first_layer_mask
from training.exact_network import quantise

__all__ = [
    "ROWS",
    "Product",
    "Rate",
    "bare_products",
    "in_process",
    "load_served",
    "products",
    "random_model",
    "work_per_pair",
]

ROWS = 1024
"""Pairs per batch, as in the scorer."""

Rate = Callable[[], float]
"""Measures for a moment, and returns pairs per second."""


@dataclass(frozen=True, slots=True)
class Product:
    """The product of a batch and a matrix of weights (inputs, units)."""

    inputs: int
    units: int
    late: bool
    """After the first layer, so in float64."""


def random_model(name: str, inputs: PairInputs, hidden: Sequence[int], folder: Path, *, branches: bool) -> Path:
    """Writes a network with random weights, with or without branches in its first layer, as a served version."""
    from training.export import export

    random = np.random.default_rng(1)
    sizes = [inputs.size, *hidden, 1]
    weights = [(random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32) for shape in pairwise(sizes)]
    if branches:
        weights[0] *= first_layer_mask(inputs, hidden[0])
    biases = [np.zeros(size, dtype=np.float32) for size in sizes[1:]]
    card = ModelCard(
        version=name,
        bits=inputs.bits,
        code_fingerprint="random",
        embedding_name="random",
        embedding_version="1",
        thresholds=Thresholds(0.5, 0.5, 0.5),
    )
    models = ModelFolder(folder)
    export(quantise(weights, biases, inputs=inputs), card, models)
    models.use(name)
    return folder


def load_served(folder: Path) -> PairModel:
    """The served model of a folder, warmed up."""
    models = ModelFolder(folder)
    model = models.load(models.served(), model_class())
    model.warm_up()
    return model


def products(model: PairModel) -> list[Product]:
    """The matrix products of a model: those of its card's layers, the first in two where its graph has branches."""
    from scoring.tf_model import TfPairModel

    if not isinstance(model, TfPairModel):
        raise TypeError(f"{type(model).__name__} has no graph")
    card = model.card
    sizes = [card.inputs.size, *card.hidden, 1]
    layers = [Product(one, other, late=bool(number)) for number, (one, other) in enumerate(pairwise(sizes))]
    if model.operations("MatMul") == len(layers):
        return layers
    return [Product(sizes[0] // 2, sizes[1] // 2, late=False)] * 2 + layers[1:]


def work_per_pair(shapes: Sequence[Product]) -> float:
    """Floating point operations per pair in all products: a multiplication and an addition for each weight."""
    return 2.0 * sum(one.inputs * one.units for one in shapes)


def in_process(model: PairModel, threads: int, least_s: float) -> Rate:
    """The rate of a loaded model in batches of `ROWS`, one on each thread."""
    random = np.random.default_rng(2)
    left, right = random.integers(0, 256, (2, ROWS, model.card.code_bytes), dtype=np.uint8)
    return lambda: _side_by_side(lambda: model.score(left, right), threads, least_s)


def bare_products(shapes: Sequence[Product], threads: int, least_s: float, *, exact: bool) -> Rate:
    """The rate of the matrix products alone, one after the other.

    Args:
        shapes: The products of one batch.
        threads: Batches at a time.
        least_s: The shortest duration of a measurement, in seconds.
        exact: With the number types of the network (float32, then float64); else float32 throughout.
    """
    import tensorflow as tf

    random = np.random.default_rng(3)
    matrices = [
        (
            tf.constant(random.random((ROWS, one.inputs)), tf.float64 if exact and one.late else tf.float32),
            tf.constant(random.random((one.inputs, one.units)), tf.float64 if exact and one.late else tf.float32),
        )
        for one in shapes
    ]
    # TensorFlow would compute products of constants when it builds the function.
    held = [(tf.Variable(left), tf.Variable(right)) for left, right in matrices]
    product = tf.function(lambda: [tf.matmul(left, right) for left, right in held], autograph=False)
    call = product.get_concrete_function()
    return lambda: _side_by_side(lambda: call()[-1].numpy(), threads, least_s)


def _side_by_side(batch: Callable[[], object], threads: int, least_s: float) -> float:
    """Pairs per second, with batches of `ROWS` pairs on each thread until the time is over."""
    batch()
    started = time.perf_counter()

    def run(_: int) -> int:
        done = 0
        while time.perf_counter() - started < least_s:
            batch()
            done += ROWS
        return done

    with ThreadPoolExecutor(threads) as pool:
        pairs = sum(pool.map(run, range(threads)))
    return pairs / (time.perf_counter() - started)
