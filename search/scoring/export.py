"""Writes a model as a version's folder: a SavedModel whose graph takes score codes, and the model card.

The graph: XOR of the bits, each byte looked up as eight 0/1 floats; absolute differences and sums of the values; the
exact network (`search.scoring.exact_network`: whole numbers in float32, then in float64); sigmoid of the calibrated
logit in float64, rounded to float32. Weights are constants of the graph: no variables, no optimizer state.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from search.scoring.card import ModelCard, write_card
from search.scoring.exact_network import ExactNetwork
from search.scoring.features import PairInputs
from search.scoring.model_folder import ModelFolder, checksums
from search.scoring.tf_model import OUTPUT, SIGNATURE

__all__ = ["export", "pair_graph"]


def pair_graph(network: ExactNetwork) -> Any:
    """The network as a TensorFlow function of two batches of codes (n, code_bytes) uint8."""
    codes = tf.TensorSpec((None, network.inputs.code_bytes), tf.uint8)
    calibration = network.calibration

    @tf.function(input_signature=[codes, codes], autograph=False)  # type: ignore[untyped-decorator]
    def score(left: Any, right: Any) -> dict[str, Any]:
        values = _inputs(left, right, network.inputs)
        kind = tf.float32
        for layer in network.layers[:-1]:
            weights, bias = tf.constant(layer.weights, kind), tf.constant(layer.bias, kind)
            values = tf.cast(tf.nn.relu(tf.matmul(values, weights) + bias), tf.float64)
            kind = tf.float64
            if layer.shift:
                values = tf.floor(values * tf.constant(2.0**-layer.shift, kind))
        last = network.layers[-1]
        sums = tf.matmul(values, tf.constant(last.weights, kind))[:, 0] + tf.constant(last.bias[0], kind)
        logits = tf.cast(sums, tf.float64) * tf.constant(2.0**-network.logit_bits, tf.float64)
        probability = tf.sigmoid(logits * calibration.slope + calibration.offset)
        return {OUTPUT: tf.cast(probability, tf.float32)}

    return score


def _inputs(left: Any, right: Any, inputs: PairInputs) -> Any:
    """`PairInputs.of` as a part of the graph, in float32."""
    split, parts = inputs.bits // 8, []
    if inputs.xor:
        bits_of_byte = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
        # A look-up is twice as fast as shifting and masking.
        different = tf.cast(tf.bitwise.bitwise_xor(left[:, :split], right[:, :split]), tf.int32)
        parts.append(tf.reshape(tf.gather(tf.constant(bits_of_byte), different), (-1, inputs.bits)))
    if inputs.values:
        one, other = (tf.cast(tf.bitcast(codes[:, split:], tf.int8), tf.float32) for codes in (left, right))
        parts += [tf.abs(one - other), tf.abs(one + other)]
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def export(network: ExactNetwork, card: ModelCard, folder: ModelFolder) -> ModelCard:
    """Writes a version; it appears under its name only when it is whole. `served` is left as it is.

    Args:
        network: The trained, exact network.
        card: What is known of it; checksums of its files are filled in here.
        folder: Where the signal's models are. A version of the same name is replaced.

    Returns:
        The card as written.
    """
    target = folder.path(card.version)
    partial = target.with_name(f".{card.version}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    module = tf.Module()
    module.score = pair_graph(network)
    signature = module.score.get_concrete_function()
    tf.saved_model.save(module, os.fspath(partial), signatures={SIGNATURE: signature})
    complete = replace(
        card,
        bits=network.inputs.bits,
        values=network.inputs.values,
        xor=network.inputs.xor,
        hidden=network.hidden,
        parameters=network.parameters,
        files_sha256=checksums(partial),
    )
    write_card(complete, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return complete
