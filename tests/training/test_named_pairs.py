"""Pairs that a CSV file names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import BadInputError
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up
from training.labelled import read_photos
from training.named_pairs import pairs_of_groups, read_pairs


def test_named_pairs_stand_for_their_groups(tmp_path: Path) -> None:
    photos = read_photos(write_made_up(tmp_path / "photos.parquet"), SEARCH_DIMENSION, SCORE_DIMENSION)
    (tmp_path / "pairs.csv").write_text("a,b,note\ng-train-0-0,g-train-1-2,x\ng-train-0-0,who,y\n", encoding="utf-8")
    named = read_pairs(tmp_path / "pairs.csv")
    assert named == (("g-train-0-0", "g-train-1-2"), ("g-train-0-0", "who"))
    first, second, third = (np.flatnonzero(photos.group_id == f"g-train-{number}")[:3] for number in range(3))
    left, right = np.concatenate([first, second, first]), np.concatenate([second, first, third])
    assert pairs_of_groups(photos, named, left, right).tolist() == [True] * 6 + [False] * 3


def test_no_file_of_pairs_names_none_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    assert read_pairs(tmp_path / "pairs.csv") == ()
    (tmp_path / "pairs.csv").write_text("one,other\n", encoding="utf-8")
    with pytest.raises(BadInputError, match="lacks the columns a and b; it has one, other"):
        read_pairs(tmp_path / "pairs.csv")
