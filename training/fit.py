"""Fits a pair network, and with it the projection that gives the values of score codes.

    signed square roots of the embeddings, less their mean -> projection -> values of both images
        -> |a - b|, |a + b| -> ReLU layers -> logit

A projection that is learnt too gets gradients from both images of a pair (a siamese network). With a given projection,
values are rounded as in service, and bits may be compared too. The optimizer is Adam with decoupled weight decay, a
cosine schedule and dropout. After each round the look-alikes get new weights from the network's logits
(`training.neighbourhoods`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scoring.features import PairInputs
from search.hashing.fitted_projection import FittedProjection
from search.hashing.score_codes import CodeSettings
from search.hashing.signed_sqrt import signed_sqrt
from training.augmentation import EditTransfer
from training.branches import first_layer_mask, has_branches, projection_mask
from training.exact_network import ExactNetwork
from training.fitted_network import UNIT, FittedNetwork
from training.forward import TAUGHT, Teacher, branch_inputs, forward, pair_inputs, rounded
from training.labelled import LabelledPhotos
from training.neighbourhoods import COPIES, Neighbourhoods, read_neighbourhoods, write_neighbourhoods
from training.training_settings import Effort, NetworkSettings

# isort: split
import keras
import tensorflow as tf

__all__ = ["FitSettings", "Progress", "fit_network"]

Progress = Callable[[float, str], None]
"""Called with the share that is done (0 to 1) and what is going on."""

Judge = Callable[[ExactNetwork, FittedProjection | None], float]
"""The quality of a network on images that it is not fitted to; larger is better."""

_PART = 8192
"""Pairs that are scored at a time."""


@dataclass(frozen=True, eq=False, slots=True)
class FitSettings:
    """The settings of one fit."""

    code: CodeSettings
    """How codes are made; without a projection and without `values`, bits alone are compared. Bits that are signs of a
    projection that is learnt now are as many as its values."""
    network: NetworkSettings
    effort: Effort
    seed: int
    values: int = 0
    """Values of a projection to learn; 0: use the projection of `code`."""
    start: FittedNetwork | None = None
    """Initial weights (and projection, if one is learnt); None: random ones."""
    teacher: FittedNetwork | None = None
    """Part of the loss is the distance to this network's probabilities (distillation, Hinton et al. 2015)."""


def fit_network(
    photos: LabelledPhotos,
    neighbourhoods: Neighbourhoods,
    settings: FitSettings,
    judge: Judge,
    told: Progress = lambda _share, _text: None,
) -> FittedNetwork:
    """Fits a network to the photographs.

    Args:
        photos: The photographs to fit to.
        neighbourhoods: Drawn from the same photographs.
        settings: Codes, network, effort, start.
        judge: Compares the rounds; the best one is returned.
        told: Called with the progress.
    """
    network, effort = settings.network, settings.effort
    keras.utils.set_random_seed(settings.seed)
    random = np.random.default_rng(settings.seed)
    trainer = _Trainer(photos, settings)
    best, best_value, best_round = trainer.fitted(0), -1.0, 0
    pairs = neighbourhoods.look_alike_pairs()
    for number in range(1, effort.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="neardup-pairs-") as folder:
            path = Path(folder) / "neighbourhoods.parquet"
            write_neighbourhoods(neighbourhoods, effort.steps_per_round * network.seeds, random, path)
            for step, rows in enumerate(read_neighbourhoods(path, network.seeds)):
                trainer.step(rows, neighbourhoods.forbidden(rows), random)
                if step % 10 == 0:
                    told((number - 1 + step / effort.steps_per_round) / effort.rounds, f"round {number}")
        found = trainer.fitted(number)
        value = judge(found.exact(), found.projection)
        if value > best_value:
            best, best_value, best_round = found, value, number
        told(number / effort.rounds, f"round {number}: average precision {value:.4f} on validation")
        if number - best_round >= effort.patience:
            break
        if number < effort.rounds:
            neighbourhoods.weigh(trainer.logits(*pairs), network.hardness)
    return best


class _Trainer:
    """The variables of a network, and one step of Adam."""

    def __init__(self, photos: LabelledPhotos, settings: FitSettings) -> None:
        code, network, values, start = settings.code, settings.network, settings.values, settings.start
        scaled = signed_sqrt(code.projected(photos.score, photos.search))
        given = start.projection if start is not None and start.projection is not None else code.projection
        self._learns = values > 0
        self._centre = given.centre if given is not None else scaled[photos.is_photo].mean(axis=0).astype(np.float32)
        self._vectors = (scaled - self._centre).astype(np.float32)
        self._transfer = EditTransfer(photos, self._vectors)
        self._groups = np.unique(photos.group_id, return_inverse=True)[1].astype(np.int64)
        ignored = np.unique(photos.ignore_group, return_inverse=True)[1].astype(np.int64)
        self._ignored = np.where(photos.ignore_group == "", -1 - np.arange(len(photos)), ignored)
        self._network, self._code = network, code
        size = values or (given.size if given is not None else 0)
        self._inputs = PairInputs(code.bits, size, xor=network.xor or not size)
        seen = projection_mask(code.dimension, code.search_dimension, size)
        # Values start with a root mean square of 1 / UNIT.
        spread = np.sqrt((self._vectors**2).mean(axis=0) @ seen)
        directions = tf.random.normal(seen.shape).numpy() * seen / (np.where(spread > 0, spread, 1.0) * UNIT)
        begun = given if given is not None and (start is not None or not self._learns) else None
        matrix = directions if begun is None else begun.matrix
        self._projection = tf.Variable(matrix.astype(np.float32) * UNIT, trainable=self._learns)
        hyperplanes = None if code.signs else code.build().hyperplanes
        self._planes = None if hyperplanes is None else tf.constant(hyperplanes.planes.T.astype(np.float32))
        compared = (
            first_layer_mask(self._inputs, network.hidden[0]) if network.branches and code.search_dimension else None
        )
        self._layers = _variables(start, (self._inputs.size, *network.hidden, 1), compared)
        # Zeros that are never used need not be multiplied.
        self._halves = bool(code.search_dimension) and not matrix[seen == 0].any()
        self._branches = compared is not None and has_branches(self._layers[0][0].numpy(), self._inputs)
        self._teacher = None if settings.teacher is None else Teacher(settings.teacher, self._centre)
        self._given = given
        trained = [variable for layer in self._layers for variable in layer]
        self._trained = [*trained, self._projection] if self._learns else trained
        # Weights that start at zero and get no gradient stay zero under Adam and weight decay.
        self._masks: list[Any] = [None] * len(self._trained)
        self._masks[0] = compared
        if self._learns:
            self._masks[-1] = seen
        steps = settings.effort.rounds * settings.effort.steps_per_round
        rate = keras.optimizers.schedules.CosineDecay(network.learning_rate, steps, alpha=0.02)
        self._adam = keras.optimizers.AdamW(rate, weight_decay=network.weight_decay)
        self._adam.build(self._trained)
        one, other = np.triu_indices(1 + COPIES + network.look_alikes, 1)
        self._one, self._other = tf.constant(one), tf.constant(other)
        self._graph = tf.function(self._train_step, autograph=False)
        self._score = tf.function(self._pair_logits, autograph=False)

    def step(self, rows: NDArray[np.int64], forbidden: NDArray[np.bool_], random: np.random.Generator) -> Any:
        """One step on a batch of neighbourhoods (count, width), without their forbidden pairs (count, pairs).

        Returns:
            The loss before the step, as a tensor.
        """
        edited: NDArray[np.bool_] = random.random(rows.shape) < np.full(rows.shape, self._network.edited)
        # The seed stands in for a missing copy. It must be edited: a pair of equal images teaches nothing.
        edited[:, 1 : 1 + COPIES] |= rows[:, 1 : 1 + COPIES] == rows[:, :1]
        vectors = self._transfer.apply(self._vectors[rows.reshape(-1)], edited.reshape(-1), random)
        groups, ignored = self._groups[rows], self._ignored[rows]
        weights = tf.constant(~forbidden.reshape(-1), tf.float32)
        return self._graph(tf.constant(vectors), tf.constant(groups), tf.constant(ignored), weights)

    def logits(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        """Logits of pairs of photographs."""
        encoded = [
            self._encode(tf.constant(self._vectors[start : start + _PART]))
            for start in range(0, len(self._vectors), _PART)
        ]
        values, bits = (np.concatenate([part[kind].numpy() for part in encoded]) for kind in (0, 1))

        def part(start: int) -> NDArray[np.float32]:
            one, other = left[start : start + _PART], right[start : start + _PART]
            tables = (values[one], values[other], bits[one], bits[other])
            found: NDArray[np.float32] = self._score(*map(tf.constant, tables)).numpy()
            return found

        parts = [part(start) for start in range(0, len(left), _PART)]
        return np.concatenate(parts).astype(np.float64) if parts else np.empty(0)

    def fitted(self, rounds: int) -> FittedNetwork:
        """The network with the present values of the variables."""
        layers = [(weight.numpy(), bias.numpy()) for weight, bias in self._layers]
        if not self._learns:
            return FittedNetwork(tuple(layers), self._inputs, self._given, rounds)
        # Each value gets the same spread; the first layer is scaled back.
        matrix = self._projection.numpy()
        spread = np.maximum(np.sqrt(((self._vectors @ matrix) ** 2).mean(axis=0)), 1e-6).astype(np.float32)
        projection = FittedProjection.fitted(self._centre, matrix / spread, 1.0, 1 / UNIT)
        ratio = _ratio(projection, matrix / spread)
        first = layers[0][0].copy()
        first[first.shape[0] - 2 * len(spread) :] *= (np.tile(spread, 2) / ratio)[:, None]
        layers[0] = (first, layers[0][1])
        return FittedNetwork(tuple(layers), self._inputs, projection, rounds)

    def _encode(self, vectors: Any) -> tuple[Any, Any]:
        """Values (times `UNIT`) and bits (as 0 and 1) of vectors."""
        values = self._values(vectors)
        if not self._learns:
            values = rounded(values)
        if not self._needs_bits:
            return values, tf.zeros((tf.shape(vectors)[0], 0))
        if self._planes is None:
            return values, tf.cast(rounded(values) > 0, tf.float32)
        # The bits come from the score embedding alone.
        scaled = (vectors + tf.constant(self._centre))[:, : self._code.dimension]
        shift = 0.0 if self._code.centre is None else tf.constant(self._code.centre)
        plain = tf.sign(scaled) * scaled * scaled - shift
        return values, tf.cast(tf.matmul(plain, self._planes) > 0, tf.float32)

    def _values(self, vectors: Any) -> Any:
        own, half = self._code.dimension, self._projection.shape[1] // 2
        if not self._halves:
            return tf.matmul(vectors, self._projection)
        of_score = tf.matmul(vectors[:, :own], self._projection[:own, :half])
        return tf.concat([of_score, tf.matmul(vectors[:, own:], self._projection[own:, half:])], axis=1)

    def _compared(self, left: Any, right: Any, left_bits: Any, right_bits: Any) -> list[Any]:
        if self._branches:
            return branch_inputs(left, right)
        return pair_inputs(self._inputs, left, right, left_bits, right_bits)

    @property
    def _needs_bits(self) -> bool:
        return self._inputs.xor or (self._teacher is not None and self._teacher.needs_bits)

    def _pair_logits(self, left: Any, right: Any, left_bits: Any, right_bits: Any) -> Any:
        return forward(self._layers, self._compared(left, right, left_bits, right_bits), 0.0)

    def _train_step(self, vectors: Any, groups: Any, ignored: Any, weights: Any) -> Any:
        count, width = groups.shape
        dropped = tf.nn.dropout(vectors, self._network.input_dropout) if self._learns else vectors

        def sides(table: Any) -> tuple[Any, Any]:
            """The rows of the first and of the second image of every pair; the table has a row per image."""
            shaped = tf.reshape(table, (count, width, *table.shape[1:]))
            one, other = (tf.gather(shaped, side, axis=1) for side in (self._one, self._other))
            flat = (count * self._one.shape[0], *table.shape[1:])
            return tf.reshape(one, flat), tf.reshape(other, flat)

        with tf.GradientTape() as tape:
            values, bits = self._encode(dropped)
            bits_of_sides = sides(bits)
            pairs = self._compared(*sides(values), *bits_of_sides)
            logits = forward(self._layers, pairs, self._network.dropout)
            one, other = sides(tf.reshape(groups, [-1]))
            copies = tf.cast(one == other, tf.float32)
            one, other = sides(tf.reshape(ignored, [-1]))
            weights *= tf.where(copies > 0, self._network.copies_weight, tf.cast(one != other, tf.float32))
            wanted = copies
            if self._teacher is not None:
                taught = self._teacher.probabilities(vectors, bits_of_sides, sides)
                wanted = (1 - TAUGHT) * copies + TAUGHT * tf.stop_gradient(taught)
            loss = tf.reduce_mean(weights * tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits))
        gradients = [
            gradient if mask is None else gradient * mask
            for gradient, mask in zip(tape.gradient(loss, self._trained), self._masks, strict=True)
        ]
        self._adam.apply_gradients(zip(gradients, self._trained, strict=True))
        return loss


def _variables(
    start: FittedNetwork | None, sizes: tuple[int, ...], first: NDArray[np.float32] | None
) -> list[tuple[Any, Any]]:
    if start is not None:
        return [(tf.Variable(weight), tf.Variable(bias)) for weight, bias in start.layers]
    masks = [np.ones(shape, np.float32) for shape in pairwise(sizes)]
    masks[0] = masks[0] if first is None else first
    return [
        (
            tf.Variable(tf.random.normal(mask.shape) * mask * (2 / mask.sum(axis=0)) ** 0.5),
            tf.Variable(tf.zeros(mask.shape[1])),
        )
        for mask in masks
    ]


def _ratio(projection: FittedProjection, matrix: NDArray[np.float32]) -> float:
    """How many times larger the values of the rounded projection (times `UNIT`) are than those of a matrix."""
    row, column = np.unravel_index(int(np.argmax(np.abs(matrix))), matrix.shape)
    return float(projection.matrix[row, column] * UNIT / matrix[row, column])
