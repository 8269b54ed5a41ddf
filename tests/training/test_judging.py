"""Judging: what counts, per kind of edit and data set, and that perfect scores give perfect clusters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.types import Thresholds
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import Order, Ranking
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up
from training.judging import (
    ScoredPairs,
    Share,
    judge_clusters,
    judge_pairs,
    score_pairs,
)
from training.labelled import LabelledPhotos, read_photos
from training.validation import Streams

SEARCH = TermSettings(SEARCH_DIMENSION, 1, 64, 24, 4)
CODE = CodeSettings(SCORE_DIMENSION, 64, 2)
LIMITS = Thresholds(0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> LabelledPhotos:
    path = write_made_up(tmp_path_factory.mktemp("photos") / "photos.parquet")
    return read_photos(path, SEARCH_DIMENSION, SCORE_DIMENSION)


@pytest.fixture(scope="module")
def streams(photos: LabelledPhotos) -> Streams:
    return Streams(photos, SEARCH, Ranking(40), CODE, seed=1)


@pytest.fixture(scope="module")
def codes(photos: LabelledPhotos) -> np.ndarray:
    """Row numbers as codes: a scorer that knows the labels can be made of them."""
    return np.arange(len(photos), dtype="<u4")[:, None].view(np.uint8)


def rows(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes).view("<u4")[:, 0]


@pytest.fixture(scope="module")
def knowing(photos: LabelledPhotos):  # type: ignore[no-untyped-def]
    groups = photos.group_id
    return lambda left, right: (groups[rows(left)] == groups[rows(right)]).astype(np.float32)


def test_knowing_scores_are_perfect_on_pairs(photos, streams, codes, knowing) -> None:  # type: ignore[no-untyped-def]
    counted = photos.split == "test"
    pairs = score_pairs(counted, streams, codes, knowing)
    assert (counted[pairs.left] | counted[pairs.right]).all()
    assert (pairs.left < pairs.right).all()
    judged = judge_pairs(photos, counted, pairs, 0.5)
    assert (judged.recall_at_precision, judged.precision_at_accept, judged.recall_at_accept) == (1.0, 1.0, 1.0)
    assert judged.copies == pairs.is_copy.sum()
    # Six groups of five with ten pairs of copies each.
    assert judged.found_by_search == pairs.is_copy.sum() / 60
    assert set(judged.families) == {"push0", "push1", "push2", "push3"}
    assert set(judged.datasets) == {"set0", "set1"}
    assert all(share.taken == share.of > 0 for share in judged.families.values())
    assert judged.calibration_error == 0.0
    assert judged.family_recalls == dict.fromkeys(judged.families, 1.0)
    assert judged.by_family()["push0"] == {
        "copies": judged.families["push0"].of,
        "recall_at_accept": 1.0,
        "recall_at_precision_0.99": 1.0,
    }
    assert judged.by_dataset()["set0"]["precision_at_accept"] == 1.0


def test_knowing_scores_give_clusters_as_good_as_the_search(photos, streams, codes, knowing) -> None:  # type: ignore[no-untyped-def]
    told: list[float] = []
    found = judge_clusters(photos.split == "test", streams, codes, knowing, LIMITS, 2, told.append)
    assert found["bcubed_precision"] == found["pairwise_precision"] == 1.0
    assert found["bcubed_recall"] > 0.8
    assert told == [0.5, 1.0]


def test_pairs_beyond_the_gate_are_proposed_and_not_found(photos, streams, codes, knowing) -> None:  # type: ignore[no-untyped-def]
    counted = photos.split == "test"
    pairs = score_pairs(counted, streams, codes, knowing)
    distances = streams.distances(pairs.left, pairs.right)
    bits = np.unpackbits(CODE.build().codes(photos.score, photos.search), axis=1)
    assert distances.tolist() == (bits[pairs.left] != bits[pairs.right]).sum(axis=1).tolist()
    gate = int(np.median(distances[pairs.is_copy]))
    gated = streams.gated(gate)
    kept = score_pairs(counted, gated, codes, knowing)
    assert (kept.left == pairs.left).all()
    np.testing.assert_array_equal(kept.scores, np.where(distances > gate, 0, pairs.scores))
    every, judged = judge_pairs(photos, counted, pairs, 0.5), judge_pairs(photos, counted, kept, 0.5)
    assert judged.found_by_search == every.found_by_search
    assert 0 < judged.found_at_precision < every.found_at_precision == every.found_by_search
    clusters = judge_clusters(counted, gated, codes, knowing, LIMITS, 2)
    assert clusters["bcubed_recall"] < judge_clusters(counted, streams, codes, knowing, LIMITS, 2)["bcubed_recall"]
    # The index tells no distances where it ranks by overlap, so no gate can be applied.
    by_overlap = Streams(photos, SEARCH, Ranking(40, order=Order.OVERLAP), CODE, seed=1).gated(0)
    assert score_pairs(counted, by_overlap, codes, knowing).scores.sum() == by_overlap.candidate_pairs(counted)[2].sum()


def test_recall_of_a_kind_of_edit_is_over_the_pairs_with_such_an_edit(photos) -> None:  # type: ignore[no-untyped-def]
    """push0: a wrong pair scores above its copies; push1: none does."""
    one, other = (np.flatnonzero(photos.group_id == f"g-test-{number}") for number in (0, 1))
    left, right = np.array([one[0], one[0], one[1]]), np.array([one[1], one[2], other[0]])
    scores = np.array([0.75, 0.85, 0.95], np.float32)
    assert photos.family[[one[1], one[2]]].tolist() == ["push0", "push1"]
    judged = judge_pairs(
        photos, np.ones(len(photos), bool), ScoredPairs(left, right, np.array([True, True, False]), scores), 0.8
    )
    assert (judged.family_recalls["push0"], judged.family_recalls["push1"]) == (0.0, 1.0)
    assert judged.calibration_error == pytest.approx((0.25 + 0.15 + 0.95) / 3)


def test_scores_that_take_everything_ruin_precision(photos, streams, codes) -> None:  # type: ignore[no-untyped-def]
    counted = np.ones(len(photos), bool)
    pairs = score_pairs(counted, streams, codes, lambda left, _right: np.ones(len(left), np.float32))
    judged = judge_pairs(photos, counted, pairs, 0.5)
    assert judged.recall_at_accept == 1.0
    assert judged.precision_at_accept == pytest.approx(pairs.is_copy.mean())
    assert judged.recall_at_precision == 0.0


def test_adversarial_and_natural_pairs_are_told_apart(photos) -> None:  # type: ignore[no-untyped-def]
    first, second = (np.flatnonzero(photos.group_id == f"g-test-{number}") for number in (0, 1))
    left, right = np.array([first[0], first[0], first[1]]), np.array([first[1], second[0], second[2]])
    pairs = ScoredPairs(left, right, np.array([True, False, False]), np.array([0.9, 0.95, 0.2], np.float32))
    scene = [(photos.image_id[first[0]], photos.image_id[second[0]])]
    natural = [(photos.image_id[first[1]], photos.image_id[first[0]]), ("who", "knows")]
    judged = judge_pairs(photos, np.ones(len(photos), bool), pairs, 0.5, scene, natural)
    # The named pair stands for its groups: both pairs between them are adversarial.
    assert judged.same_scene == Share(1, 2)
    assert judged.natural == Share(1, 1)
    assert (judged.recall_at_precision, judged.recall_at_precision_without_same_scene) == (0.0, 1.0)


def test_a_share_of_nothing_is_nothing() -> None:
    assert Share(0, 0).share == 0.0


def test_plots_are_drawn(photos, streams, codes, knowing, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    plots = pytest.importorskip("training.plots")
    counted = photos.split == "test"
    pairs = score_pairs(counted, streams, codes, knowing)
    files = plots.draw_all(
        pairs, judge_pairs(photos, counted, pairs, 0.5).families, 0.5, "v1", tmp_path / "plots", "all"
    )
    assert [file.read_bytes()[:4] for file in files] == [b"\x89PNG"] * 4
