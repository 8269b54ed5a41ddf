"""Labels of pictures, on the small photographs whose truth is known, and the file that training takes."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from training.labelling.decision import BUILT_IN, read_tree
from training.labelling.labels import SCHEMA, Label, label_pairs, write_labels
from training.labelling.pair_list import pictures_of
from training.labelling.verification import NO_MATCH

DEMO = Path(__file__).parents[3] / "examples" / "photos" / "demo"


def source(image: str) -> str:
    return "-".join(image.split("-")[:2])


def test_labels_agree_with_the_truth_about_three_photographs() -> None:
    images = pictures_of(DEMO)
    chosen = [image for image in images if source(image) in sorted({source(image) for image in images})[:3]]
    assert len(chosen) == 18
    labels = list(label_pairs(combinations(chosen, 2), images, read_tree()))
    assert [one for one in labels if one.duplicate != (source(one.image_a) == source(one.image_b))] == []


def test_a_bad_picture_gets_a_row_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    good = next(iter(pictures_of(DEMO).items()))
    images = dict([good, ("bad", tmp_path / "bad.jpg")])
    first, second = label_pairs([(good[0], "bad"), (good[0], good[0])], images, read_tree(), held=0)
    assert first.duplicate is None
    assert "bad.jpg cannot be decoded as a picture" in (first.problem or "")
    assert second.duplicate


def test_the_file_of_labels(tmp_path: Path) -> None:
    labels = [
        Label("a", "b", True, 0.75, NO_MATCH),
        Label("a", "c", False, 0.25, NO_MATCH),
        Label("a", "d", None, problem="torn"),
    ]
    told: list[int] = []
    assert write_labels(labels, tmp_path / "labels.parquet", told.append) == (1, 1, 1)
    assert told == [3]
    table = pq.read_table(tmp_path / "labels.parquet")
    assert table.schema == SCHEMA
    rows = table.select(["image_a", "image_b", "label", "probability", "problem", "scale"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        ("a", "b", 1, 0.75, None, 1000.0),
        ("a", "c", 0, 0.25, None, 1000.0),
        ("a", "d", None, None, "torn", None),
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "labels.parquet"]


def test_a_file_that_breaks_off_does_not_appear(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield Label("a", "b", True, 1.0, NO_MATCH)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_labels(broken(), tmp_path / "labels.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be written"):
        write_labels([], tmp_path / "gone" / "labels.parquet")


def flat(path: Path, colour: tuple[int, int, int], side: int = 64) -> Path:
    assert cv2.imwrite(str(path), np.full((side, side, 3), colour, np.uint8))
    return path


def test_pictures_without_structure_are_equal_or_cannot_be_told(tmp_path: Path) -> None:
    white, black = (255, 255, 255), (0, 0, 0)
    files = {
        "white": flat(tmp_path / "white.png", white),
        "again": flat(tmp_path / "again.png", white),
        "bitmap": flat(tmp_path / "bitmap.bmp", white),
        "black": flat(tmp_path / "black.png", black),
        # Both have the grey value 76.
        "red": flat(tmp_path / "red.png", (0, 0, 254)),
        "green": flat(tmp_path / "green.png", (0, 129, 0)),
        "photo": DEMO / "clothing-0152ec2ee8.jpg",
    }
    pairs = [("white", "again"), ("white", "bitmap"), ("white", "black"), ("red", "green"), ("photo", "white")]
    found = list(label_pairs([*pairs, ("photo", "photo")], files, read_tree(BUILT_IN)))
    assert [one.duplicate for one in found] == [True, True, None, None, None, True]
    assert [one.probability for one in found[:5]] == [1.0, 1.0, None, None, None]
    assert all("too few local features" in (one.problem or "") for one in found[2:5])
    out = tmp_path / "labels.parquet"
    assert write_labels(found, out) == (3, 0, 3)
    assert pq.read_table(out)["label"].to_pylist() == [1, 1, None, None, None, 1]
