"""What the scorer's benchmark runs in its own process: models of given shapes, and bare matrix products beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np

from search.scoring.card import ModelCard
from search.scoring.exact_network import quantise
from search.scoring.features import PairInputs
from search.scoring.model import PairModel
from search.scoring.model_folder import ModelFolder
from search.types import Thresholds

__all__ = ["ROWS", "Rate", "bare_products", "in_process", "layer_sizes", "load_served", "random_model", "work_per_pair"]

ROWS = 1024
"""Pairs of one batch, the scorer's own."""

Rate = Callable[[], float]
"""Measures for a moment: pairs per second."""


def random_model(name: str, inputs: PairInputs, hidden: Sequence[int], folder: Path) -> Path:
    """Writes a network with random weights as a served version."""
    from search.scoring.export import export

    random = np.random.default_rng(1)
    sizes = [inputs.size, *hidden, 1]
    weights = [(random.standard_normal(shape) * (2 / shape[0]) ** 0.5).astype(np.float32) for shape in pairwise(sizes)]
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
    """The served model of a folder, warm."""
    from search.scoring.tf_model import load_tf

    models = ModelFolder(folder)
    model = models.load(models.served(), load_tf)
    model.warm_up()
    return model


def layer_sizes(card: ModelCard) -> list[int]:
    """Inputs, units of the hidden layers, and the one output."""
    return [card.inputs.size, *card.hidden, 1]


def work_per_pair(sizes: Sequence[int]) -> float:
    """Floating point operations of all products of one pair: a multiplication and an addition for each weight."""
    return 2.0 * sum(one * other for one, other in pairwise(sizes))


def in_process(model: PairModel, threads: int, least_s: float) -> Rate:
    """A loaded model, in batches of the scorer's size, one on each thread."""
    random = np.random.default_rng(2)
    left, right = random.integers(0, 256, (2, ROWS, model.card.code_bytes), dtype=np.uint8)
    return lambda: _side_by_side(lambda: model.score(left, right), threads, least_s)


def bare_products(sizes: Sequence[int], threads: int, least_s: float, *, exact: bool) -> Rate:
    """The matrix products alone, one after the other.

    Args:
        sizes: Of the layers, inputs first.
        threads: So many batches at a time.
        least_s: How long a measurement takes at least.
        exact: With the network's own kinds of numbers (float32, then float64); else float32 throughout.
    """
    import tensorflow as tf

    random = np.random.default_rng(3)
    kinds = [tf.float64 if exact and layer else tf.float32 for layer in range(len(sizes) - 1)]
    factors = [
        (tf.constant(random.random((ROWS, shape[0])), kind), tf.constant(random.random(shape), kind))
        for shape, kind in zip(pairwise(sizes), kinds, strict=True)
    ]
    # As constants the products would be folded away when the function is made.
    held = [(tf.Variable(left), tf.Variable(right)) for left, right in factors]
    product = tf.function(lambda: [tf.matmul(left, right) for left, right in held], autograph=False)
    call = product.get_concrete_function()
    return lambda: _side_by_side(lambda: call()[-1].numpy(), threads, least_s)


def _side_by_side(batch: Callable[[], object], threads: int, least_s: float) -> float:
    """Pairs per second, with a batch of `ROWS` pairs on each thread, again and again until the time is over."""
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
