"""Transferred edits change both embeddings of a photograph by a labelled edit of another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.scoring.augmentation import STRONGEST, transfer_edits
from search.scoring.labelled import LabelledPhotos, read_photos
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    path = write_made_up(tmp_path / "photos.parquet")
    return read_photos(path, SEARCH_DIMENSION, SCORE_DIMENSION).of("train")


def test_every_photograph_gets_as_many(photos: LabelledPhotos) -> None:
    made = transfer_edits(photos, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(made.photo, np.repeat(np.flatnonzero(photos.is_photo), 3))
    assert made.search.shape == (len(made.photo), SEARCH_DIMENSION)
    assert made.score.shape == (len(made.photo), SCORE_DIMENSION)
    assert made.search.dtype == made.score.dtype == np.float32


def test_they_stay_near_their_photograph_and_within_the_range_of_the_data(photos: LabelledPhotos) -> None:
    made = transfer_edits(photos, 5, np.random.default_rng(1))
    assert (made.score <= photos.score.max(axis=0)).all()
    assert (made.score >= photos.score.min(axis=0)).all()
    distance = np.linalg.norm(made.score - photos.score[made.photo], axis=1)
    strangers = np.linalg.norm(photos.score[0] - photos.score[photos.is_photo][1:], axis=1)
    assert np.median(distance) < 0.5 * np.median(strangers)
    assert (distance > 0).all()


def test_an_added_edit_is_the_same_for_both_embeddings(photos: LabelledPhotos) -> None:
    """With one single edit in the data, every made image that was not clipped moves along its two directions."""
    keep = np.flatnonzero(photos.is_photo | (photos.family == "push0"))
    first_edit = next(row for row in keep if photos.kind[row] == "edit")
    some = photos.where(np.array([row for row in keep if photos.is_photo[row] or row == first_edit]))
    made = transfer_edits(some, 40, np.random.default_rng(2))
    edit = int(np.flatnonzero(some.kind == "edit")[0])
    original = int(np.flatnonzero((some.group_id == some.group_id[edit]) & some.is_photo)[0])
    found = 0
    for row, photo in enumerate(made.photo):
        strengths = [
            (after[row] - before[photo]) / (before[edit] - before[original])
            for after, before in ((made.search, some.search), (made.score, some.score))
        ]
        middle = float(np.median(np.concatenate(strengths)))
        if all(np.median(np.abs(one - middle)) < 1e-3 for one in strengths):
            found += 1
            assert 0 < middle <= STRONGEST + 1e-6
    assert found > len(made.photo) / 10


def test_without_labelled_edits_nothing_is_made(photos: LabelledPhotos) -> None:
    assert len(transfer_edits(photos.where(photos.is_photo), 3, np.random.default_rng(0)).photo) == 0


def test_the_seed_decides(photos: LabelledPhotos) -> None:
    one, same = (transfer_edits(photos, 2, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one.score, same.score)
