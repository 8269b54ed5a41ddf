"""Writes a model as a version's folder: a SavedModel whose graph takes score codes, and the model card.

The graph has three steps. First the inputs: XOR of the bits, each byte looked up as eight 0/1 floats; absolute
differences and sums of the values. Then the exact network (`training.exact_network`), in whole numbers in float32, then
float64. Then the sigmoid of the calibrated logit in float64, rounded to float32. Weights are constants of the graph:
there are no variables and no optimizer state. If the first layer has branches (`training.branches`), each half is a
product of its own. That is half the arithmetic and, as the sums are exact, gives the same result.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from core.errors import BadInputError
from scoring.card import ModelCard, write_card
from scoring.features import PairInputs
from scoring.model_folder import ModelFolder, checksums
from scoring.tf_model import OUTPUT, SIGNATURE
from training.branches import has_branches
from training.exact_network import ExactNetwork

__all__ = ["export", "export_again", "pair_graph"]


def pair_graph(network: ExactNetwork) -> Any:
    """The network as a TensorFlow function of two batches of codes (n, code_bytes) uint8."""
    codes = tf.TensorSpec((None, network.inputs.code_bytes), tf.uint8)
    calibration = network.calibration

    @tf.function(input_signature=[codes, codes], autograph=False)  # type: ignore[untyped-decorator]
    def score(left: Any, right: Any) -> dict[str, Any]:
        sums, kind = _first_product(left, right, network), tf.float32
        for layer, after in pairwise(network.layers):
            values = tf.cast(tf.nn.relu(sums + tf.constant(layer.bias, kind)), tf.float64)
            kind = tf.float64
            if layer.shift:
                values = tf.floor(values * tf.constant(2.0**-layer.shift, kind))
            sums = tf.matmul(values, tf.constant(after.weights, kind))
        sums = sums[:, 0] + tf.constant(network.layers[-1].bias[0], kind)
        logits = tf.cast(sums, tf.float64) * tf.constant(2.0**-network.logit_bits, tf.float64)
        probability = tf.sigmoid(logits * calibration.slope + calibration.offset)
        return {OUTPUT: tf.cast(probability, tf.float32)}

    return score


def _first_product(left: Any, right: Any, network: ExactNetwork) -> Any:
    """The product of the pairs' inputs and the first layer's weights, in float32."""
    inputs, weights = network.inputs, network.layers[0].weights
    if not has_branches(weights, inputs):
        return tf.matmul(_inputs(left, right, inputs), tf.constant(weights, tf.float32))
    split, units = inputs.bits // 8, weights.shape[1] // 2
    products = []
    for branch, columns in enumerate(np.split(np.arange(inputs.values), 2)):
        rows = np.concatenate([columns, inputs.values + columns])
        mine = weights[rows, branch * units : (branch + 1) * units]
        seen = _differences_and_sums(left, right, split + columns[0], split + columns[-1] + 1)
        products.append(tf.matmul(tf.concat(seen, axis=1), tf.constant(mine, tf.float32)))
    return tf.concat(products, axis=1)


def _inputs(left: Any, right: Any, inputs: PairInputs) -> Any:
    """`PairInputs.of` as a part of the graph, in float32."""
    split, parts = inputs.bits // 8, []
    if inputs.xor:
        bits_of_byte = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32)
        # A lookup is twice as fast as shifts and masks.
        different = tf.cast(tf.bitwise.bitwise_xor(left[:, :split], right[:, :split]), tf.int32)
        parts.append(tf.reshape(tf.gather(tf.constant(bits_of_byte), different), (-1, inputs.bits)))
    if inputs.values:
        parts += _differences_and_sums(left, right, split, inputs.code_bytes)
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def _differences_and_sums(left: Any, right: Any, start: int, stop: int) -> list[Any]:
    """Absolute differences, then absolute sums, of the signed bytes `start` to `stop` of the codes."""
    one, other = (tf.cast(tf.bitcast(codes[:, start:stop], tf.int8), tf.float32) for codes in (left, right))
    return [tf.abs(one - other), tf.abs(one + other)]


def export(network: ExactNetwork, card: ModelCard, folder: ModelFolder) -> ModelCard:
    """Writes a version. It gets its name only when it is complete; `served` does not change.

    Args:
        network: The trained, exact network.
        card: Its card; layout, checksums and time are filled in here.
        folder: Of the signal's models.

    Returns:
        The card as written.

    Raises:
        BadInputError: There is a version of this name already; it may be in use.
    """
    partial = _partial(card, folder)
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
        exported_at=_now(),
    )
    return _written(complete, partial, folder)


def export_again(card: ModelCard, network: ModelCard, folder: ModelFolder) -> ModelCard:
    """Writes a version with the files of another one. Its card says something else of the same network.

    Args:
        card: Of the new version; what is of the network itself is filled in here.
        network: The card of the version whose files are taken.
        folder: Of the signal's models; it has both.

    Returns:
        The card as written.

    Raises:
        BadInputError: There is a version of the new name already; it may be in use.
    """
    partial, source = _partial(card, folder), folder.path(network.version)
    for name in network.files_sha256:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, partial / name)
    same = ("bits", "values", "xor", "hidden", "parameters", "files_sha256")
    complete = replace(card, exported_at=_now(), **{name: getattr(network, name) for name in same})
    return _written(complete, partial, folder)


def _partial(card: ModelCard, folder: ModelFolder) -> Path:
    """Where a version is written before it gets its name; nothing is there."""
    target = folder.path(card.version)
    if target.exists():
        raise BadInputError(f"the version {card.version} exists already: {target}")
    partial = target.with_name(f".{card.version}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    return partial


def _written(card: ModelCard, partial: Path, folder: ModelFolder) -> ModelCard:
    write_card(card, partial)
    partial.rename(folder.path(card.version))
    return card


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
