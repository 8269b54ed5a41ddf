"""Reading labelled photographs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search.errors import BadInputError
from search.scoring.labelled import file_sha256, read_photos
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, made_up_table, write_made_up


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
    for name in ("text.parquet", "missing.parquet"):
        with pytest.raises(BadInputError, match=f"{name} cannot be read as Parquet"):
            read(tmp_path / name)


def test_checksum_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea")
