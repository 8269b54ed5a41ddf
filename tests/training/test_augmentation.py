"""Transferred edits change a vector by a labelled edit of another photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up
from training.augmentation import STRONGEST, WEAKEST, EditTransfer
from training.labelled import LabelledPhotos, read_photos


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    path = write_made_up(tmp_path / "photos.parquet")
    return read_photos(path, SEARCH_DIMENSION, SCORE_DIMENSION).of("train")


def test_only_masked_vectors_change_and_the_given_ones_stay(photos: LabelledPhotos) -> None:
    before = photos.score.copy()
    mask = np.arange(len(photos)) % 3 == 0
    made = EditTransfer(photos, photos.score).apply(photos.score, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(photos.score, before)
    np.testing.assert_array_equal((made != before).any(axis=1), mask)


def test_a_change_is_that_of_a_labelled_edit(photos: LabelledPhotos) -> None:
    """With one single edit in the data, all that was not cut off moves along its direction, within the strengths."""
    source = int(np.flatnonzero(photos.kind == "source")[0])
    edit = int(np.flatnonzero((photos.kind == "edit") & (photos.group_id == photos.group_id[source]))[0])
    pair = photos.where(np.array([source, edit]))
    change = pair.score[1] - pair.score[0]
    targets = np.full((20, SCORE_DIMENSION), 50, np.float32)
    moved = EditTransfer(pair, pair.score).apply(targets, np.ones(20, bool), np.random.default_rng(1)) - targets
    strength = moved @ change / (change @ change)
    assert ((strength > WEAKEST - 0.01) & (strength < STRONGEST + 0.01)).all()
    np.testing.assert_allclose(moved, strength[:, None] * change, atol=1e-4)


def test_no_element_falls_below_what_was_seen(photos: LabelledPhotos) -> None:
    lowest = photos.score.min(axis=0)
    everything = np.ones(50, bool)
    made = EditTransfer(photos, photos.score).apply(np.tile(lowest, (50, 1)), everything, np.random.default_rng(2))
    assert (made >= lowest).all()


def test_without_edits_nothing_changes(photos: LabelledPhotos) -> None:
    lone = photos.where(photos.kind == "distractor")
    made = EditTransfer(lone, lone.score).apply(lone.score, np.ones(len(lone), bool), np.random.default_rng(3))
    np.testing.assert_array_equal(made, lone.score)
