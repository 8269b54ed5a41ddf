"""Trains a classifier: pairs from labelled photographs, a Keras network, calibration, thresholds, export.

    photographs (train) -> rounds of: transferred edits -> terms and codes -> mined pairs -> Adam -> validation
    best round          -> exact network -> calibration and thresholds on a simulated stream (val) -> version's folder

Training never reads the test split; at the end it is streamed once, to report.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.errors import BadInputError
from search.scoring.augmentation import transfer_edits
from search.scoring.card import ModelCard
from search.scoring.exact_network import ExactNetwork, quantise
from search.scoring.export import export, pair_graph
from search.scoring.features import unpack_codes
from search.scoring.labelled import LabelledPhotos, file_sha256, read_photos
from search.scoring.model_folder import ModelFolder, version_name
from search.scoring.pairs import TrainingPairs, mine_pairs
from search.scoring.tf_model import OUTPUT, limit_threads
from search.scoring.thresholds import calibrate, precision_curve
from search.scoring.training_settings import FULL, QUICK, Effort, TrainSettings
from search.scoring.validation import Streams, ThresholdChoice, choose_thresholds, measure
from search.terms import TermExtractor

# isort: split
import keras
import tensorflow as tf

__all__ = ["FULL", "QUICK", "Effort", "Progress", "TrainSettings", "train"]

Progress = Callable[[float, str], None]
"""Told the share that is done (0 to 1) and what is going on."""

_PART = 8192
"""Pairs that are scored at once."""


def _silent(_share: float, _text: str) -> None:
    return


def train(settings: TrainSettings, progress: Progress = _silent) -> ModelCard:
    """Trains, calibrates and exports one version.

    Returns:
        Its card, as written beside it.

    Raises:
        BadInputError: The photographs cannot be read, lack a split, or are too few to train on.
        SettingsError: Settings do not hold together.
    """
    limit_threads(settings.threads)
    keras.utils.set_random_seed(settings.seed)
    photos = read_photos(settings.photos, settings.terms.dimension, settings.code.dimension)
    for split in ("train", "val"):
        if not (photos.split == split).any():
            raise BadInputError(f"{settings.photos} has no image of the split {split!r}")
    progress(0.0, "making terms and codes")
    extractor, projection = settings.terms.build(), settings.code.build()
    streams = Streams(photos, extractor.terms(photos.search), projection.codes(photos.score), settings)
    network, rounds = _fit(settings, photos.of("train"), extractor, projection.codes, streams, progress)
    progress(0.85, "choosing thresholds on simulated streams")
    network, choice = _calibrated(network, streams, settings)
    progress(0.95, "measuring the test split")
    metrics = {"rounds": float(rounds), **choice.metrics, **measure(streams, batched(network), choice.thresholds)}
    data = file_sha256(settings.photos)
    card = ModelCard(
        version=version_name(settings.version or _derived_version(settings, data)),
        bits=settings.code.bits,
        code_fingerprint=projection.fingerprint,
        embedding_name=settings.embedding_name,
        embedding_version=settings.embedding_version,
        thresholds=choice.thresholds,
        training_sha256=data,
        training_settings=settings.describe(),
        metrics={name: round(value, 5) for name, value in sorted(metrics.items())},
        software=_software(),
    )
    folder = ModelFolder(settings.model)
    card = export(network, card, folder)
    if settings.serve:
        folder.use(card.version)
    progress(1.0, f"wrote {card.version}")
    return card


def batched(network: ExactNetwork) -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]:
    """The served graph of a network as a function of any number of pairs."""
    graph = pair_graph(network).get_concrete_function()

    def score(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.float32]:
        parts = [
            graph(tf.constant(left[start : start + _PART]), tf.constant(right[start : start + _PART]))[OUTPUT].numpy()
            for start in range(0, len(left), _PART)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    return score


def _fit(
    settings: TrainSettings,
    photos: LabelledPhotos,
    extractor: TermExtractor,
    code: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
    streams: Streams,
    progress: Progress,
) -> tuple[ExactNetwork, int]:
    """The network of the round that was best on the validation pairs, and how many rounds were trained."""
    random = np.random.default_rng(settings.seed)
    effort = settings.effort
    model = _network(settings)
    left, right, is_copy = streams.validation_pairs()
    best, best_value, best_round = quantise(*_layers(model)), -1.0, 0
    for number in range(1, effort.rounds + 1):
        pairs = _corpus(settings, photos, extractor, code, random)
        model.fit(_Batches(pairs, settings, random), epochs=1, verbose=0)
        candidate = quantise(*_layers(model))
        value = precision_curve(batched(candidate)(left, right), is_copy).average_precision
        if value > best_value:
            best, best_value, best_round = candidate, value, number
        progress(0.85 * number / effort.rounds, f"round {number}: average precision {value:.3f} on validation")
        if number - best_round >= effort.patience:
            break
    return best, number


def _corpus(
    settings: TrainSettings,
    photos: LabelledPhotos,
    extractor: TermExtractor,
    code: Callable[[NDArray[np.float32]], NDArray[np.uint8]],
    random: np.random.Generator,
) -> TrainingPairs:
    """The training images with fresh transferred edits, as pairs."""
    made = transfer_edits(photos, settings.effort.transferred_per_photo, random)
    rows = np.concatenate([np.arange(len(photos)), made.photo])
    groups = np.unique(photos.group_id, return_inverse=True)[1]
    names, ignored = np.unique(photos.ignore_group, return_inverse=True)
    ignored = np.where(names[ignored] == "", -1, ignored)
    pairs = mine_pairs(
        groups[rows],
        ignored[rows],
        extractor.terms(np.concatenate([photos.search, made.search])),
        code(np.concatenate([photos.score, made.score])),
        settings.mining,
        random,
    )
    if not len(pairs.copies) or not len(pairs.different):
        raise BadInputError(
            f"{len(pairs.copies)} pairs of copies and {len(pairs.different)} of different images: too few"
        )
    return pairs


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of one round: a fixed share of copies, both classes drawn evenly from their pairs."""

    def __init__(self, pairs: TrainingPairs, settings: TrainSettings, random: np.random.Generator) -> None:
        super().__init__(workers=1, use_multiprocessing=False)
        self._pairs = pairs
        self._steps = settings.effort.steps_per_round
        self._copies = max(1, round(settings.batch * settings.copies_share))
        self._different = settings.batch - self._copies
        # One seed per batch: Keras fetches them in an order of its own.
        self._seeds = random.integers(0, 2**63, self._steps)

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        random = np.random.default_rng(self._seeds[index])
        chosen = np.concatenate(
            [
                random.choice(self._pairs.copies, self._copies),
                random.choice(self._pairs.different, self._different),
            ]
        )
        labels = np.repeat(np.array([1.0, 0.0], dtype=np.float32), [self._copies, self._different])
        return unpack_codes(self._pairs.xor(chosen)), labels[:, None]


class _NoisyBits(keras.layers.Layer):  # type: ignore[misc]
    """In training only: flips bits, each pair with a rate of its own between 0 and `most`."""

    def __init__(self, most: float, seed: int) -> None:
        super().__init__()
        self._most = most
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, bits: Any, training: bool = False) -> Any:
        if not training or not self._most:
            return bits
        rate = keras.random.uniform((keras.ops.shape(bits)[0], 1), 0.0, self._most, seed=self._seeds)
        flipped = keras.random.uniform(keras.ops.shape(bits), seed=self._seeds) < rate
        return keras.ops.abs(bits - keras.ops.cast(flipped, bits.dtype))


def _network(settings: TrainSettings) -> Any:
    bits = keras.Input((settings.code.bits,), dtype="float32")
    values = _NoisyBits(settings.bit_flips, settings.seed)(bits)
    values = keras.layers.Dropout(settings.bit_dropout, seed=settings.seed)(values)
    for units in settings.hidden:
        values = keras.layers.Dense(units, activation="relu")(values)
        values = keras.layers.Dropout(settings.dropout, seed=settings.seed)(values)
    model = keras.Model(bits, keras.layers.Dense(1)(values))
    steps = settings.effort.rounds * settings.effort.steps_per_round
    rate = keras.optimizers.schedules.CosineDecay(settings.learning_rate, steps, alpha=0.02)
    model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def _layers(model: Any) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    dense = [layer.get_weights() for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return [weights for weights, _ in dense], [bias for _, bias in dense]


def _calibrated(
    network: ExactNetwork, streams: Streams, settings: TrainSettings
) -> tuple[ExactNetwork, ThresholdChoice]:
    """The network with its calibration and the thresholds, from the validation pairs."""
    left, right, is_copy = streams.validation_pairs()
    calibration = calibrate(network.logits(left, right), is_copy)
    calibrated = replace(network, calibration=calibration)
    return calibrated, choose_thresholds(streams, batched(calibrated), settings)


def _derived_version(settings: TrainSettings, data_sha256: str) -> str:
    text = json.dumps([settings.describe(), data_sha256], sort_keys=True)
    return f"xor{settings.code.bits}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _software() -> dict[str, str]:
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, "numpy": np.__version__, "tensorflow": tf.__version__, "keras": keras.__version__}
