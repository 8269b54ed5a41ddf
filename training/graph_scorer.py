"""The served graph of a network, over any number of pairs, for training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from scoring.tf_model import OUTPUT
from training.exact_network import ExactNetwork
from training.export import pair_graph
from training.simulation import PairScorer

__all__ = ["graph_scorer"]

_PART = 8192
"""Pairs that are scored at a time."""


def graph_scorer(network: ExactNetwork) -> PairScorer:
    """The served graph of a network as a function of any number of pairs."""
    graph = pair_graph(network).get_concrete_function()

    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            graph(tf.constant(left[start : start + _PART]), tf.constant(right[start : start + _PART]))[OUTPUT].numpy()
            for start in range(0, len(left), _PART)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    return score
