"""The agreement of found clusters with the sample's labels."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from stream.demo.quality import quality
from stream.demo.sample import SAMPLE, LabelledImage, read_labels

ROOT = Path(__file__).parents[3]


def image(image_id: str, group: str, split: str = "test") -> LabelledImage:
    return LabelledImage(image_id, group, "", split)


def test_only_the_test_split_counts() -> None:
    labels = [image("a", "A"), image("b", "A"), image("c", "C"), image("x", "X", "train"), image("y", "X", "train")]
    found = quality(labels, {"a": "a", "b": "a", "c": "c", "x": "x", "y": "y"})
    assert (found.groups, found.images) == (2, 3)
    assert (found.pairwise.precision, found.pairwise.recall) == (1.0, 1.0)
    assert (found.bcubed.precision, found.bcubed.recall, found.bcubed.f1) == (1.0, 1.0, 1.0)


def test_a_mate_from_another_split_is_a_wrong_mate() -> None:
    labels = [image("a", "A"), image("b", "A"), image("x", "X", "train")]
    found = quality(labels, {"a": "a", "b": "a", "x": "a"})
    assert found.pairwise.recall == 1.0
    assert found.pairwise.precision == pytest.approx(1 / 3, abs=1e-4)
    assert found.bcubed.precision == 0.5


def test_the_sample_has_labels_for_every_image() -> None:
    labels = read_labels(ROOT / SAMPLE)
    assert len({label.image_id for label in labels}) == len(labels) == pq.read_metadata(ROOT / SAMPLE).num_rows
    assert {label.split for label in labels} == {"train", "val", "test"}


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image_id": ["a"]}), tmp_path / "bare.parquet")
    with pytest.raises(BadInputError, match="group_id"):
        read_labels(tmp_path / "bare.parquet")
    with pytest.raises(BadInputError, match=r"nowhere\.parquet"):
        read_labels(tmp_path / "nowhere.parquet")
