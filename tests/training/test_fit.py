"""Fitting: what is exported is what was trained, a widened network is the same function, rounding loses little."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from scoring.features import PairInputs
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import Ranking
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up
from training.branches import has_branches
from training.candidates import rank_candidates
from training.fit import FitSettings, _Trainer, fit_network
from training.fitted_network import FittedNetwork, widened
from training.labelled import LabelledPhotos, read_photos
from training.neighbourhoods import Neighbourhoods
from training.training_settings import Effort, NetworkSettings

CODE = CodeSettings(SCORE_DIMENSION, 64, 2)
NETWORK = NetworkSettings(hidden=(16, 8), seeds=8, look_alikes=4)
EFFORT = Effort(rounds=2, steps_per_round=20, patience=2)
FIT = FitSettings(CODE, NETWORK, EFFORT, seed=1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> LabelledPhotos:
    path = write_made_up(tmp_path_factory.mktemp("photos") / "photos.parquet")
    return read_photos(path, SEARCH_DIMENSION, SCORE_DIMENSION).of("train")


@pytest.fixture(scope="module")
def neighbourhoods(photos: LabelledPhotos) -> Neighbourhoods:
    terms = TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4).build().terms(photos.search)
    return Neighbourhoods(photos, rank_candidates(terms, None, Ranking(30)), NETWORK.look_alikes)


@pytest.fixture(scope="module")
def fitted(photos: LabelledPhotos, neighbourhoods: Neighbourhoods) -> FittedNetwork:
    values = iter([0.5, 0.6])
    return fit_network(photos, neighbourhoods, replace(FIT, values=12), lambda *_: next(values))


def all_pairs(photos: LabelledPhotos) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.triu_indices(len(photos), 1)
    return left, right


def served_logits(photos: LabelledPhotos, fitted: FittedNetwork) -> np.ndarray:
    codes = replace(CODE, projection=fitted.projection).build().codes(photos.score, photos.search)
    left, right = all_pairs(photos)
    return fitted.exact().logits(codes[left], codes[right])


def trained_logits(photos: LabelledPhotos, network: NetworkSettings, start: FittedNetwork) -> np.ndarray:
    trainer = _Trainer(photos, replace(FIT, network=network, start=start))
    return trainer.logits(*all_pairs(photos))


def test_what_is_served_is_what_was_trained(photos: LabelledPhotos, fitted: FittedNetwork) -> None:
    assert fitted.rounds == 2
    assert fitted.inputs == PairInputs(64, 12, xor=False)
    served, trained = served_logits(photos, fitted), trained_logits(photos, NETWORK, fitted)
    assert np.abs(served - trained).max() < 0.05 * trained.std()


def test_a_projection_may_be_learnt_on_both_embeddings(photos: LabelledPhotos, neighbourhoods: Neighbourhoods) -> None:
    both = replace(CODE, search_dimension=SEARCH_DIMENSION)
    found = fit_network(photos, neighbourhoods, replace(FIT, code=both, values=12), lambda *_: 0.5)
    assert found.projection is not None
    assert found.projection.dimension == SCORE_DIMENSION + SEARCH_DIMENSION
    halves = found.projection.weights[:SCORE_DIMENSION], found.projection.weights[SCORE_DIMENSION:]
    assert [np.flatnonzero(half.any(axis=0)).tolist() for half in halves] == [list(range(6)), list(range(6, 12))]
    assert has_branches(found.exact().layers[0].weights, found.inputs)
    left, right = all_pairs(photos)
    codes = replace(both, projection=found.projection).build().codes(photos.score, photos.search)
    trained = _Trainer(photos, replace(FIT, code=both, start=found)).logits(left, right)
    assert np.abs(found.exact().logits(codes[left], codes[right]) - trained).max() < 0.1 * trained.std()


def test_signs_of_values_are_compared_as_codes_have_them(
    photos: LabelledPhotos, neighbourhoods: Neighbourhoods
) -> None:
    signs = replace(CODE, bits=16, signs=True)
    fit = replace(FIT, code=signs, network=replace(NETWORK, xor=True))
    found = fit_network(photos, neighbourhoods, replace(fit, values=16), lambda *_: 0.5)
    assert found.inputs == PairInputs(16, 16, xor=True)
    (weights, bias), *later = found.layers
    alone = weights.copy()
    alone[16:] = 0
    compared = replace(found, layers=((alone, bias), *later))
    left, right = all_pairs(photos)
    codes = replace(signs, projection=found.projection).build().codes(photos.score, photos.search)
    trained = _Trainer(photos, replace(fit, start=compared)).logits(left, right)
    assert np.abs(compared.exact().logits(codes[left], codes[right]) - trained).max() < 0.01 * trained.std()


def test_a_widened_network_is_the_same_function(photos: LabelledPhotos, fitted: FittedNetwork) -> None:
    large = replace(NETWORK, hidden=(40, 20), xor=True)
    wide = widened(fitted, large.hidden, PairInputs(64, 12), seed=3)
    assert wide.exact().hidden == (40, 20)
    np.testing.assert_allclose(trained_logits(photos, large, wide), trained_logits(photos, NETWORK, fitted), atol=1e-3)
    served = served_logits(photos, fitted)
    assert np.abs(served_logits(photos, wide) - served).max() < 0.1 * served.std()


@pytest.mark.parametrize("hidden", [(8, 8), (40,)])
def test_a_network_does_not_widen_into_a_smaller_one(fitted: FittedNetwork, hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot become"):
        widened(fitted, hidden, PairInputs(64, 12), seed=3)


def test_it_stops_when_nothing_gets_better(photos: LabelledPhotos, neighbourhoods: Neighbourhoods) -> None:
    effort = Effort(rounds=6, steps_per_round=2, patience=2)
    values = iter([0.5, 0.9, 0.8, 0.7])
    found = fit_network(photos, neighbourhoods, replace(FIT, effort=effort), lambda *_: next(values))
    assert found.rounds == 2
    assert next(values, None) is None


def test_a_teacher_is_followed(photos: LabelledPhotos, neighbourhoods: Neighbourhoods, fitted: FittedNetwork) -> None:
    effort = Effort(rounds=1, steps_per_round=60, patience=1)
    teacher = widened(fitted, (40, 20), PairInputs(64, 12), seed=3)
    fit = FitSettings(CODE, NETWORK, effort, seed=2, start=fitted, teacher=teacher)
    taught = fit_network(photos, neighbourhoods, fit, lambda *_: 1.0)
    alone = fit_network(photos, neighbourhoods, replace(fit, teacher=None), lambda *_: 1.0)
    assert taught.projection is fitted.projection
    followed, not_followed = (
        np.corrcoef(served_logits(photos, each), served_logits(photos, teacher))[0, 1] for each in (taught, alone)
    )
    assert followed > max(0.8, not_followed)


def step_loss(photos: LabelledPhotos, start: FittedNetwork, row: list[int], forbidden: list[int]) -> tuple[float, ...]:
    """The loss of one step on one neighbourhood, and how far its largest weight moved; nothing random, no decay."""
    network = replace(NETWORK, look_alikes=2, edited=0.0, dropout=0.0, input_dropout=0.0, weight_decay=0.0)
    trainer = _Trainer(photos, replace(FIT, network=network, start=start))
    mask = np.zeros((1, 10), dtype=bool)
    mask[0, forbidden] = True
    before = trainer.fitted(0).layers
    loss = float(trainer.step(np.array([row]), mask, np.random.default_rng(0)))
    moved = [np.abs(old[0] - new[0]).max() for old, new in zip(before, trainer.fitted(0).layers, strict=True)]
    return loss, float(max(moved))


def test_pairs_weigh_what_their_class_weighs_and_forbidden_ones_nothing(
    photos: LabelledPhotos, fitted: FittedNetwork
) -> None:
    """Ten pairs of a row of five: the first three images are copies of one another, the last two are different."""
    copies = np.flatnonzero(photos.group_id == "g-train-0")[:3].tolist()
    row = [*copies, *(int(np.flatnonzero(photos.group_id == f"g-train-{number}")[0]) for number in (1, 2))]
    one, other = np.triu_indices(5, 1)
    trainer = _Trainer(photos, replace(FIT, start=fitted))
    logits = trainer.logits(np.array(row)[one], np.array(row)[other])
    is_copy = (one < 3) & (other < 3)
    entropy = np.logaddexp(0, logits) - is_copy * logits
    weights = np.where(is_copy, NETWORK.copies_weight, 1.0)
    for forbidden in ([], [0, 1], [3, 9]):
        left = np.delete(weights * entropy, forbidden)
        assert step_loss(photos, fitted, row, forbidden)[0] == pytest.approx(left.sum() / 10, rel=1e-3)
    assert step_loss(photos, fitted, row, [])[1] > 0
    assert step_loss(photos, fitted, row, list(range(10))) == (0.0, 0.0)


def test_fitting_gives_no_weight_to_what_is_forbidden(photos: LabelledPhotos, monkeypatch: pytest.MonkeyPatch) -> None:
    never = [(photos.image_id[0], image) for image in photos.image_id[photos.group_id != photos.group_id[0]].tolist()]
    ranked = rank_candidates(
        TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4).build().terms(photos.search), None, Ranking(30)
    )
    drawn = Neighbourhoods(photos, ranked, NETWORK.look_alikes, never)
    met: list[tuple[np.ndarray, np.ndarray]] = []
    inner = _Trainer._train_step

    def spy(trainer: _Trainer, vectors: Any, groups: Any, ignored: Any, weights: Any) -> Any:
        met.append((groups.numpy(), weights.numpy().reshape(len(groups), -1)))
        return inner(trainer, vectors, groups, ignored, weights)

    monkeypatch.setattr(_Trainer, "_train_step", spy)
    monkeypatch.setattr(tf, "function", lambda function, autograph: function)
    effort = Effort(rounds=1, steps_per_round=6, patience=1)
    fit_network(photos, drawn, replace(FIT, effort=effort, values=4), lambda *_: 0.5)
    groups, weights = (np.concatenate(arrays) for arrays in zip(*met, strict=True))
    own = np.unique(photos.group_id, return_inverse=True)[1][0]
    one, other = np.triu_indices(groups.shape[1], 1)
    wanted = (groups[:, one] == own) == (groups[:, other] == own)
    np.testing.assert_array_equal(weights, wanted.astype(np.float32))
    assert not wanted.all()
