"""Labels of pairs join groups, through chains too; what joins nothing is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, write_made_up
from training.label_pairs import with_labels
from training.labelled import LabelledPhotos, read_photos


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    return read_photos(write_made_up(tmp_path / "photos.parquet"), SEARCH_DIMENSION, SCORE_DIMENSION)


def write(path: Path, *rows: tuple[str, str, int | None]) -> Path:
    one, other, labels = zip(*rows, strict=True)
    pq.write_table(pa.table({"image_a": one, "image_b": other, "label": pa.array(labels, pa.int8())}), path)
    return path


def test_duplicates_join_their_groups_and_splits(photos: LabelledPhotos, tmp_path: Path) -> None:
    labels = write(
        tmp_path / "labels.parquet",
        ("g-train-0-1", "g-val-3-0", 1),
        ("g-val-3-0", "g-test-2-0", 1),
        ("g-train-1-0", "g-train-2-0", 0),
        ("g-train-4-0", "g-train-5-0", None),
        ("g-train-0-0", "elsewhere", 1),
    )
    changed = with_labels(photos, labels)
    whole = np.isin(photos.group_id, ["g-train-0", "g-val-3", "g-test-2"])
    assert len(set(changed.group_id[whole])) == len(set(changed.split[whole])) == 1
    assert set(changed.split[whole]) == {"test"}
    np.testing.assert_array_equal(changed.group_id[~whole], photos.group_id[~whole])
    np.testing.assert_array_equal(changed.split[~whole], photos.split[~whole])


@pytest.mark.parametrize(("one", "other", "split"), [("train", "val", "val"), ("test", "val", "test")])
def test_what_is_held_out_stays_so_whichever_comes_first(
    photos: LabelledPhotos, tmp_path: Path, one: str, other: str, split: str
) -> None:
    pairs = [(f"g-{one}-4-0", f"g-{other}-2-1"), (f"g-{other}-2-1", f"g-{one}-4-0")]
    for pair in pairs:
        for rows in (photos, photos.where(np.arange(len(photos))[::-1])):
            changed = with_labels(rows, write(tmp_path / "labels.parquet", (*pair, 1)))
            joined = np.isin(rows.group_id, [f"g-{one}-4", f"g-{other}-2"])
            assert set(changed.split[joined]) == {split}
            np.testing.assert_array_equal(changed.split[~joined], rows.split[~joined])


def test_images_of_no_split_make_no_group_one_to_train_on(photos: LabelledPhotos, tmp_path: Path) -> None:
    unused = np.where(photos.group_id == "g-train-1", "spare", photos.split)
    labels = write(tmp_path / "labels.parquet", ("g-train-0-0", "g-train-1-0", 1), ("g-train-2-0", "g-train-3-0", 1))
    changed = with_labels(replace(photos, split=unused), labels)
    assert set(changed.split[np.isin(photos.group_id, ["g-train-0", "g-train-1"])]) == {"spare"}
    assert set(changed.split[np.isin(photos.group_id, ["g-train-2", "g-train-3"])]) == {"train"}


def test_labels_that_join_nothing_are_refused(photos: LabelledPhotos, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="labels no two of the"):
        with_labels(photos, write(tmp_path / "labels.parquet", ("g-train-0-0", "g-train-1-0", 0)))


def test_other_files_are_refused(photos: LabelledPhotos, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_a": ["a"]}), tmp_path / "other.parquet")
    for name in ("other.parquet", "missing.parquet"):
        with pytest.raises(BadInputError, match="cannot be read as labels"):
            with_labels(photos, tmp_path / name)
