"""Trains a classifier: candidates, a projection if wanted, networks, calibration, thresholds, export.

    photographs (train) -> candidates of the term search -> neighbourhoods (Parquet) -> Adam, judged on val
    best round          -> exact network -> calibration and thresholds on simulated streams (val) -> version's folder

A projection is learnt together with the compact network, and both once more if its signs choose the candidates. A large
network starts as the compact one, widened; then the compact one is trained again with the large one as its teacher.
Training does not read the test split, except with `train_on_test`. At the end the test split is streamed once, to
measure the model. With `thresholds_of` the network of a version is taken as it is, and the steps from the thresholds on
are done again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError, MismatchError
from scoring.card import ModelCard
from scoring.features import PairInputs
from scoring.model_folder import ModelFolder
from scoring.tf_model import TfPairModel, limit_threads
from search.hashing.fitted_projection import FittedProjection, write_projection
from search.hashing.score_codes import CodeSettings
from training.candidates import rank_candidates
from training.card_page import write_page
from training.exact_network import ExactNetwork
from training.export import export, export_again
from training.fit import FitSettings, Progress, fit_network
from training.fitted_network import FittedNetwork, widened
from training.graph_scorer import graph_scorer
from training.judging import Judged, ScoredPairs, judge_clusters, judge_pairs, score_pairs
from training.label_pairs import with_labels
from training.labelled import LabelledPhotos, data_sha256, keep_splits, move_test_to_train, read_photos
from training.left_out import LeftOut, choose_on_left_out, left_out_metrics
from training.neighbourhoods import Neighbourhoods
from training.plots import draw_all
from training.preparation import large_name, prepare
from training.simulation import PairScorer
from training.thresholds import calibrate, precision_curve
from training.training_settings import TrainSettings
from training.validation import Streams, ThresholdChoice, choose_thresholds

# isort: split
import keras
import tensorflow as tf

__all__ = ["train"]

_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]
"""Rows, rows, whether they are copies."""

_FEWEST_COPIES = 100
"""The fewest edits with which leaving a data set out is informative."""

_LISTED = 100
"""Candidates of an image from which look-alikes are taken: more than one page, as a corpus in service grows."""


def _silent(_share: float, _text: str) -> None:
    return


def train(settings: TrainSettings, progress: Progress = _silent) -> list[ModelCard]:
    """Trains, calibrates and exports.

    Returns:
        The cards as written: of the compact network, then of the large one if it was wanted.

    Raises:
        BadInputError: The photographs cannot be read, lack a split, or are too few to train on; or the version exists
            already (`training.preparation`).
    """
    version = prepare(settings)
    limit_threads(settings.threads)
    keras.utils.set_random_seed(settings.seed)
    photos = read_photos(settings.photos, settings.terms.dimension, settings.code.dimension)
    if settings.splits_of is not None:
        photos = keep_splits(photos, settings.splits_of)
    if settings.train_on_test:
        photos = move_test_to_train(photos, settings.splits_of)
    if settings.labels is not None:
        photos = with_labels(photos, settings.labels)
    for split in ("train", "val"):
        if not (photos.split == split).any():
            raise BadInputError(f"{settings.photos} has no image of the split {split!r}")
    run = _Run(settings, photos, version, progress)
    return [run.chosen_again()] if settings.thresholds_of else run.cards(run.fit())


class _Run:
    """One training: what is computed once, and the steps that use it."""

    def __init__(self, settings: TrainSettings, photos: LabelledPhotos, version: str, progress: Progress) -> None:
        self._settings = settings
        self._version = version
        self._described = settings.describe()
        self._photos = photos
        self._told = progress
        progress(0.0, "computing terms, ranking candidates")
        self._streams = Streams(photos, settings.terms, settings.ranking, settings.code, settings.seed)

    def fit(self) -> list[FittedNetwork]:
        """The compact network, and the large one if it is wanted."""
        settings = self._settings
        rows = np.flatnonzero(self._photos.split == "train")
        share = 0.5 if settings.large is not None else 0.85
        compact = self._learnt(rows, self._first_fit, (0.0, share))
        if settings.large is None:
            return [compact]
        inputs = PairInputs(settings.code.bits, compact.inputs.values, settings.large.xor or compact.inputs.xor)
        wide = widened(compact, settings.large.hidden, inputs, settings.seed)
        given = replace(self._first_fit, values=0)
        streams = self._streams.with_codes(replace(settings.code, projection=compact.projection))
        large = self._fitted(streams, rows, replace(given, network=settings.large, start=wide), (0.5, 0.8))
        taught = self._fitted(streams, rows, replace(given, start=compact, teacher=large), (0.8, 0.85))
        return [taught, large]

    @property
    def _first_fit(self) -> FitSettings:
        """The settings for the compact network, and for the projection if one is to be learnt."""
        settings = self._settings
        embeddings = 2 if settings.code.search_dimension else 1
        values = 0 if settings.fit_projection is None else settings.values * embeddings
        return FitSettings(settings.code, settings.compact, settings.effort, settings.seed, values)

    def cards(self, fitted: list[FittedNetwork]) -> list[ModelCard]:
        """Exports the networks, then writes the learnt projection, then serves the compact network, if so wished."""
        settings, version = self._settings, self._version
        projection = None if settings.fit_projection is None else fitted[0].projection
        code = settings.code if projection is None else replace(settings.code, projection=projection)
        left_out = self._left_out() if settings.leave_one_out else None
        self._streams = self._streams.with_codes(code)
        folder = ModelFolder(settings.model)
        cards = []
        for network, name in zip(fitted, (version, large_name(version)), strict=False):
            cards.append(self._exported(network.exact(), code, left_out, name, folder, network.rounds))
        if settings.fit_projection is not None and projection is not None:
            write_projection(projection, settings.fit_projection)
        if settings.serve:
            folder.use(version)
        self._told(1.0, f"wrote {version}")
        return cards

    def _exported(
        self,
        network: ExactNetwork,
        code: CodeSettings,
        left_out: list[LeftOut] | None,
        version: str,
        folder: ModelFolder,
        rounds: int,
    ) -> ModelCard:
        settings = self._settings
        codes = code.build().codes(self._photos.score, self._photos.search)
        left, right, is_copy = self._streams.validation_pairs()
        calibration = calibrate(network.logits(codes[left], codes[right]), is_copy)
        network = replace(network, calibration=calibration)
        scorer = graph_scorer(network)
        accept = None if left_out is None else choose_on_left_out(left_out, settings.precision, settings.corpus_growth)
        draft, results = self._draft(code, version, codes, scorer, accept)
        metrics = {"rounds": float(rounds), **draft.metrics}
        if left_out is not None:
            metrics |= left_out_metrics(left_out, settings.precision, settings.corpus_growth)
        card = export(network, replace(draft, metrics=_rounded(metrics)), folder)
        _write_pages(card, results, folder)
        return card

    def chosen_again(self) -> ModelCard:
        """Writes a version's network as a new version, with thresholds and a gate for the candidates of the settings.

        Raises:
            BadInputError: There is no such version, or it is damaged.
            MismatchError: It compares other codes than those of the settings.
        """
        settings, folder = self._settings, ModelFolder(self._settings.model)
        model = folder.load(settings.thresholds_of, TfPairModel)
        coder = settings.code.build()
        if model.card.code_fingerprint != coder.fingerprint:
            raise MismatchError(
                f"{settings.thresholds_of} compares the codes {model.card.code_fingerprint[:12]}, the settings make "
                f"{coder.fingerprint[:12]}: use the settings that it was trained with"
            )
        codes = coder.codes(self._photos.score, self._photos.search)
        draft, results = self._draft(settings.code, self._version, codes, model.score, None)
        network = {"training_sha256": model.card.training_sha256, "training_settings": model.card.training_settings}
        described = {**self._described, "network": {"version": settings.thresholds_of, **network}}
        metrics = _rounded(draft.metrics)
        card = export_again(replace(draft, metrics=metrics, training_settings=described), model.card, folder)
        _write_pages(card, results, folder)
        if settings.serve:
            folder.use(card.version)
        self._told(1.0, f"wrote {card.version}")
        return card

    def _draft(
        self,
        code: CodeSettings,
        version: str,
        codes: NDArray[np.uint8],
        scorer: PairScorer,
        accept: tuple[float, float] | None,
    ) -> tuple[ModelCard, tuple[Judged, ScoredPairs]]:
        """Thresholds, gate and results of a scorer, as a card without its network; and what the pages show."""
        settings = self._settings
        self._told(0.9, f"{version}: choosing thresholds on simulated streams")
        choice = choose_thresholds(self._streams, codes, scorer, settings, accept)
        self._told(0.95, f"{version}: measuring the test split")
        split, judged, pairs, measured = self._measured(codes, scorer, choice)
        card = ModelCard(
            version=version,
            bits=code.bits,
            code_fingerprint=code.build().fingerprint,
            embedding_name=settings.embedding_name,
            embedding_version=settings.embedding_version,
            thresholds=choice.thresholds,
            gate=choice.gate,
            training_sha256=data_sha256(settings.photos),
            training_settings=self._described,
            metrics=choice.metrics | measured,
            judged={"split": split, "families": judged.by_family(), "datasets": judged.by_dataset()},
            software=_software(),
        )
        return card, (judged, pairs)

    def _measured(
        self, codes: NDArray[np.uint8], scorer: PairScorer, choice: ThresholdChoice
    ) -> tuple[str, Judged, ScoredPairs, dict[str, float]]:
        """The results on the test images, streamed together with all others; without any, those on the pairs of val."""
        counted, accept = self._streams.of("test"), choice.thresholds.accept
        every, streams = score_pairs(counted, self._streams, codes, scorer), self._streams.gated(choice.gate)
        beyond = streams.beyond_gate(every.left, every.right)
        pairs = every.unscored(beyond)
        if not pairs.is_copy.any():
            left, right, is_copy = self._streams.validation_pairs()
            pairs = ScoredPairs(left, right, is_copy, scorer(codes[left], codes[right]))
            judged = judge_pairs(self._photos, self._streams.of("val"), pairs, accept)
            return "val", judged, pairs, {"val_calibration_error": judged.calibration_error}
        judged = judge_pairs(self._photos, counted, pairs, accept)
        clusters = judge_clusters(counted, streams, codes, scorer, choice.thresholds, orders=1)
        found = {
            "average_precision": judged.average_precision,
            "calibration_error": judged.calibration_error,
            "precision_at_accept": judged.precision_at_accept,
            "recall_at_accept": judged.recall_at_accept,
            "recall_at_precision_0.99": judged.recall_at_precision,
            "found_by_search": judged.found_by_search,
            "found_at_precision_0.99": judged.found_at_precision,
            "beyond_gate": float(beyond.mean()),
            "accepted_beyond_gate": float((every.scores[beyond] >= np.float32(accept)).sum()),
            **clusters,
        }
        return "test", judged, pairs, {f"test_{name}": value for name, value in found.items()}

    def _left_out(self) -> list[LeftOut]:
        """For each data set with enough copies: scores of its candidate pairs by a network that never saw it."""
        photos, settings = self._photos, self._settings
        copies = photos.dataset[~photos.is_photo]
        names = [str(name) for name in np.unique(copies) if (copies == name).sum() >= _FEWEST_COPIES]
        hidden = ~np.isin(photos.split, ["train", "val"])
        found = []
        # Half as long: the results hardly change, and there are as many fits as data sets.
        effort = replace(settings.effort, rounds=max(1, settings.effort.rounds // 2))
        for number, name in enumerate(names):
            rows = np.flatnonzero((photos.split == "train") & (photos.dataset != name))
            span = (0.85 + 0.05 * number / len(names), 0.85 + 0.05 * (number + 1) / len(names))
            fitted = self._learnt(rows, replace(self._first_fit, effort=effort), span, name)
            coded = replace(settings.code, projection=fitted.projection)
            codes, streams = coded.build().codes(photos.score, photos.search), self._streams.with_codes(coded)
            left, right, is_copy = _without(photos, name, streams)
            network = fitted.exact()
            calibration = calibrate(network.logits(codes[left], codes[right]), is_copy)
            scorer = graph_scorer(replace(network, calibration=calibration))
            left, right, is_copy = streams.candidate_pairs(photos.dataset == name, hidden)
            found.append(LeftOut(name, scorer(codes[left], codes[right]), is_copy))
        return found

    def _learnt(
        self, rows: NDArray[np.int64], fit: FitSettings, span: tuple[float, float], without: str = ""
    ) -> FittedNetwork:
        """A network fitted to some photographs, and its projection if one is to be learnt.

        Where its signs will choose the candidates, it is fitted twice: from a random start, with look-alikes that stand
        in for them, and from there on, with those that its signs choose.
        """
        (low, high), code = span, self._settings.code
        if not (code.signs and fit.values):
            return self._fitted(self._streams, rows, fit, span, without)
        middle = (low + high) / 2
        first = self._fitted(self._streams, rows, fit, (low, middle), without)
        streams = self._streams.with_codes(replace(code, projection=first.projection))
        return self._fitted(streams, rows, replace(fit, start=first), (middle, high), without)

    def _fitted(
        self,
        streams: Streams,
        rows: NDArray[np.int64],
        fit: FitSettings,
        span: tuple[float, float],
        without: str = "",
    ) -> FittedNetwork:
        """A network fitted to the candidates of some photographs.

        The validation pairs compare its rounds; those `without` a data set if one is named. `span` is the part of the
        progress, 0 to 1, that this fit stands for.
        """
        settings, photos = self._settings, self._photos.where(rows)
        ranked = rank_candidates(streams.terms[rows], streams.bits[rows], settings.ranking, _LISTED)
        neighbourhoods = Neighbourhoods(photos, ranked, fit.network.look_alikes, settings.never_train)
        pairs = _without(self._photos, without, streams) if without else streams.validation_pairs()
        low, high = span
        return fit_network(
            photos,
            neighbourhoods,
            fit,
            lambda found, projection: self._average_precision(found, projection, pairs),
            lambda share, text: self._told(low + share * (high - low), text),
        )

    def _average_precision(self, network: ExactNetwork, projection: FittedProjection | None, pairs: _Pairs) -> float:
        coder = replace(self._settings.code, projection=projection).build()
        codes = coder.codes(self._photos.score, self._photos.search)
        left, right, is_copy = pairs
        return precision_curve(graph_scorer(network)(codes[left], codes[right]), is_copy).average_precision


def _without(photos: LabelledPhotos, dataset: str, streams: Streams) -> _Pairs:
    """The validation pairs without an image of a data set."""
    left, right, is_copy = streams.validation_pairs()
    seen = (photos.dataset[left] != dataset) & (photos.dataset[right] != dataset)
    return left[seen], right[seen], is_copy[seen]


def _write_pages(card: ModelCard, results: tuple[Judged, ScoredPairs], folder: ModelFolder) -> None:
    judged, pairs = results
    accept, place, of = card.thresholds.accept, folder.path(card.version), f"pairs of the split {card.judged['split']}"
    write_page(card, judged, draw_all(pairs, judged.families, accept, card.version, place, of), place)


def _rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in sorted(metrics.items())}


def _software() -> dict[str, str]:
    python = ".".join(map(str, sys.version_info[:3]))
    return {"python": python, "numpy": np.__version__, "tensorflow": tf.__version__, "keras": keras.__version__}
