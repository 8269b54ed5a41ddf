"""Reading labelled photographs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, made_up_table, write_made_up
from training.labelled import (
    SPLITS,
    assign_splits,
    check_photos,
    data_sha256,
    file_sha256,
    keep_splits,
    move_test_to_train,
    read_photos,
)


def read(path: Path, search: int = SEARCH_DIMENSION, score: int = SCORE_DIMENSION):  # type: ignore[no-untyped-def]
    return read_photos(path, search, score)


def test_reads_labels_and_vectors(tmp_path: Path) -> None:
    photos = read(write_made_up(tmp_path / "photos.parquet"))
    assert len(photos) == made_up_table().num_rows
    assert (photos.search.dtype, photos.search.shape[1], photos.score.shape[1]) == (np.float32, 24, 16)
    val = photos.of("val")
    assert set(val.split) == {"val"}
    assert set(photos.kind[photos.is_photo]) == {"source", "distractor"}
    np.testing.assert_array_equal(val.search, photos.search[photos.split == "val"])


def test_kinds_and_ignore_groups_may_be_missing(tmp_path: Path) -> None:
    pq.write_table(made_up_table().drop_columns(["kind", "family", "ignore_group"]), tmp_path / "bare.parquet")
    photos = read(tmp_path / "bare.parquet")
    assert photos.is_photo.all()
    assert set(photos.ignore_group) == {""}


def replaced(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, values)


ROWS = made_up_table().num_rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns(["group_id"]), "lacks the column 'group_id'; it has image_id, kind"),
        (lambda table: table.drop_columns(["score"]), "lacks the column 'score'"),
        (replaced("split", pa.array(range(ROWS))), "the column 'split' of .* is int64, not string"),
        (replaced("image_id", pa.array(["same"] * ROWS)), "an image_id occurs twice"),
        (
            replaced("split", pa.array(["val", *made_up_table()["split"].to_pylist()[1:]])),
            "the group 'g-train-0' of .* is in two splits, 'val' and 'train'",
        ),
        (replaced("score", pa.array([[1.0] * 15] * ROWS)), r"have lengths \[15\], not 16"),
        (replaced("score", pa.array([None] * ROWS, pa.list_(pa.float32()))), r"have lengths \[-1\], not 16"),
        (replaced("score", pa.array([["a"] * 16] * ROWS)), "holds no numbers"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str) -> None:
    pq.write_table(change(made_up_table()), tmp_path / "bad.parquet")
    with pytest.raises(BadInputError, match=message):
        read(tmp_path / "bad.parquet")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no parquet", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"text\.parquet cannot be read as Parquet"):
        read(tmp_path / "text.parquet")
    with pytest.raises(BadInputError, match=r"there is no file or folder .*missing\.parquet"):
        read(tmp_path / "missing.parquet")
    with pytest.raises(BadInputError, match=r"has no index\.parquet with the labels"):
        read(tmp_path)


def test_the_files_of_a_folder_are_missed_before_any_is_read(tmp_path: Path) -> None:
    check_photos(write_made_up(tmp_path / "photos.parquet"))
    folder = tmp_path / "folder"
    folder.mkdir()
    check_photos(write_folder(folder))
    (folder / "score_f16.npy").unlink()
    with pytest.raises(BadInputError, match=r"there is no file .*score_f16\.npy"):
        check_photos(folder)


def test_checksum_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")


def write_folder(folder: Path) -> Path:
    """The made-up photographs as a folder, without splits."""
    table = made_up_table()
    pq.write_table(replaced("split", pa.array(["dev"] * ROWS))(table), folder / "index.parquet")
    for name in ("search", "score"):
        np.save(folder / f"{name}_f16.npy", np.stack(table[name].to_numpy(zero_copy_only=False)))
    return folder


def test_a_folder_reads_like_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    one, other = read(write_folder(folder)), read(write_made_up(tmp_path / "photos.parquet"))
    np.testing.assert_array_equal(one.image_id, other.image_id)
    np.testing.assert_array_equal(one.search, other.search)
    np.testing.assert_array_equal(one.score, other.score)
    assert data_sha256(folder) != data_sha256(tmp_path / "photos.parquet")


def test_where_no_splits_are_named_groups_are_dealt_out(tmp_path: Path) -> None:
    photos = read(write_folder(tmp_path))
    assert set(photos.split) == {"train", "val", "test"}
    for group in np.unique(photos.group_id):
        assert len(np.unique(photos.split[photos.group_id == group])) == 1


def test_dealing_out_keeps_the_shares_and_knows_the_names_alone() -> None:
    groups = np.array([f"group {number}" for number in range(5000)])
    dealt = assign_splits(groups)
    for name, share in SPLITS:
        assert abs((dealt == name).mean() - share) < 0.03
    np.testing.assert_array_equal(assign_splits(groups[::-1]), dealt[::-1])


@pytest.mark.parametrize(
    ("shape", "dtype", "message"), [((3, 16), np.float16, r"holds \(3, 16\)"), ((ROWS, 16), np.int8, "int8, not")]
)
def test_an_array_that_does_not_fit_is_refused(
    tmp_path: Path, shape: tuple[int, int], dtype: type, message: str
) -> None:
    np.save(write_folder(tmp_path) / "score_f16.npy", np.zeros(shape, dtype))
    with pytest.raises(BadInputError, match=message):
        read(tmp_path)
    (tmp_path / "score_f16.npy").unlink()
    with pytest.raises(BadInputError, match=r"score_f16\.npy cannot be read"):
        read(tmp_path)


def test_groups_keep_the_splits_of_another_file(tmp_path: Path) -> None:
    photos = read(write_made_up(tmp_path / "photos.parquet"))
    kept = pa.table({"group_id": ["g-train-0", "unknown"], "split": ["test", "val"]})
    pq.write_table(kept, tmp_path / "kept.parquet")
    changed = keep_splits(photos, tmp_path / "kept.parquet")
    moved = photos.group_id == "g-train-0"
    assert set(changed.split[moved]) == {"test"}
    np.testing.assert_array_equal(changed.split[~moved], photos.split[~moved])


def test_the_test_split_may_be_trained_on_less_what_a_file_keeps(tmp_path: Path) -> None:
    photos = read(write_made_up(tmp_path / "photos.parquet"))
    everything = move_test_to_train(photos, None)
    assert set(everything.split) == {"train", "val"}
    np.testing.assert_array_equal(everything.split == "val", photos.split == "val")
    kept = {"group_id": ["g-test-0", "g-test-1"], "split": ["test", "test"]}
    pq.write_table(pa.table(kept), tmp_path / "kept.parquet")
    less = move_test_to_train(photos, tmp_path / "kept.parquet")
    assert set(less.group_id[less.split == "test"]) == {"g-test-0", "g-test-1"}
    assert set(less.split[photos.split == "test"]) == {"train", "test"}


def test_a_file_of_splits_that_tears_a_group_apart_is_refused(tmp_path: Path) -> None:
    photos = read(write_made_up(tmp_path / "photos.parquet"))
    torn = pa.table({"group_id": ["g-train-0", "g-train-0"], "split": ["test", "train"]})
    pq.write_table(torn, tmp_path / "torn.parquet")
    for read_it in (keep_splits, move_test_to_train):
        with pytest.raises(BadInputError, match=r"'g-train-0' of .*torn\.parquet is in two splits, 'test' and 'train'"):
            read_it(photos, tmp_path / "torn.parquet")
