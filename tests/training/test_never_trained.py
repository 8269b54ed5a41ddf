"""What a named pair stands for: across groups, between photographs of one group, or the two images alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, with_natural_copies
from training.labelled import LabelledPhotos, read_photos
from training.never_trained import NeverTrained


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    """The groups g-train-0 and g-train-1 are one: two photographs, each with its edits."""
    pq.write_table(with_natural_copies(), tmp_path / "photos.parquet")
    return read_photos(tmp_path / "photos.parquet", SEARCH_DIMENSION, SCORE_DIMENSION)


def found(photos: LabelledPhotos, *named: tuple[str, str]) -> set[frozenset[str]]:
    """All pairs of images that are never trained on, by name."""
    left, right = np.triu_indices(len(photos), 1)
    never = NeverTrained(photos, named)
    mask = never.among(left, right)
    np.testing.assert_array_equal(mask, never.among(right, left))
    names = photos.image_id
    return {frozenset((names[one], names[other])) for one, other in zip(left[mask], right[mask], strict=True)}


def across(one: str, other: str, images: int = 5) -> set[frozenset[str]]:
    return {frozenset((f"{one}-{a}", f"{other}-{b}")) for a in range(images) for b in range(images)}


def test_a_pair_of_one_group_stands_for_both_photographs_with_their_edits(photos: LabelledPhotos) -> None:
    assert photos.group_id[photos.image_id == "g-train-1-0"] == "g-train-0"
    assert found(photos, ("g-train-0-0", "g-train-1-0")) == across("g-train-0", "g-train-1")
    # An edit stands for its photograph.
    assert found(photos, ("g-train-1-3", "g-train-0-2")) == across("g-train-0", "g-train-1")


def test_a_pair_of_two_groups_stands_for_all_of_both(photos: LabelledPhotos) -> None:
    expected = across("g-train-0", "g-train-2") | across("g-train-1", "g-train-2")
    assert found(photos, ("g-train-2-0", "g-train-1-0")) == expected


def test_a_photograph_and_its_own_edit_stand_for_themselves(photos: LabelledPhotos) -> None:
    assert found(photos, ("g-train-0-0", "g-train-0-2")) == {frozenset(("g-train-0-0", "g-train-0-2"))}
    assert found(photos, ("g-train-0-0", "g-train-0-0"), ("who", "g-train-0-0")) == set()


def test_edits_of_a_photograph_that_is_not_there_are_known_by_it(photos: LabelledPhotos) -> None:
    rest = photos.where(photos.image_id != "g-train-0-0")
    expected = {pair for pair in across("g-train-0", "g-train-1") if "g-train-0-0" not in pair}
    assert found(rest, ("g-train-0-0", "g-train-1-0")) == expected


def test_where_nobody_knows_an_edits_photograph_the_images_themselves_are_kept(tmp_path: Path) -> None:
    table = with_natural_copies()
    nameless = table.set_column(table.column_names.index("source_id"), "source_id", pa.nulls(len(table), pa.string()))
    pq.write_table(nameless, tmp_path / "photos.parquet")
    photos = read_photos(tmp_path / "photos.parquet", SEARCH_DIMENSION, SCORE_DIMENSION)
    assert found(photos, ("g-train-0-0", "g-train-1-0")) == {frozenset(("g-train-0-0", "g-train-1-0"))}
    # A photograph that is alone in its group is the one of all edits there.
    assert set(photos.source_id[photos.group_id == "g-train-2"]) == {"g-train-2-0"}
