"""Which cluster is drawn, and that every member of it is on the sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt

from stream.demo.picture import SheetMember, draw_cluster, most_pictures, picture_files
from stream.demo.sample import PICTURE_FOLDER, PICTURES, SAMPLE, read_labels

ROOT = Path(__file__).parents[3]
FILE = Path("some.jpg")


def texts(sheet: Path) -> str:
    """All text of an SVG that matplotlib drew: it stands in comments beside the outlines."""
    return "\n".join(line.strip() for line in sheet.read_text(encoding="utf-8").splitlines() if "<!--" in line)


def test_the_cluster_with_the_most_pictures_is_chosen() -> None:
    clusters = {"a": ["a", "a1", "a2", "a3"], "b": ["b", "b1"], "c": ["c", "c1", "c2"]}
    pictures = dict.fromkeys(["a1", "b", "b1", "c1", "c2"], FILE)
    assert most_pictures(clusters, pictures) == "c"


def test_ties_go_to_the_larger_cluster_then_to_a_head_with_a_picture_then_to_the_first() -> None:
    pictures = dict.fromkeys(["a1", "a2", "b", "b1", "c1", "c2"], FILE)
    assert most_pictures({"b": ["b", "b1"], "a": ["a", "a1", "a2"]}, pictures) == "a"
    assert most_pictures({"a": ["a", "a1", "a2"], "b": ["b", "b1", "b2"]}, pictures) == "b"
    assert most_pictures({"a": ["a", "a1", "a2"], "c": ["c", "c1", "c2"]}, pictures) == "a"


@pytest.mark.parametrize("clusters", [{}, {"a": ["a", "a1"]}])
def test_one_picture_is_no_sheet(clusters: dict[str, list[str]]) -> None:
    assert most_pictures(clusters, {"a": FILE}) is None


def test_every_member_is_on_the_sheet(tmp_path: Path) -> None:
    head = "photo-7"
    for name in (head, "photo-7-crop", "photo-7-text"):
        plt.imsave(tmp_path / f"{name}.jpg", np.full((9, 12, 3), 128, np.uint8))
    members = [
        SheetMember("photo-7-crop", "matched", 0.99871, "photo-7-e01"),
        SheetMember("photo-7-e01", "matched", 0.95, head),
        SheetMember(head, "founded", None, None),
        SheetMember("photo-7-text", "adopted", 0.5, head),
    ]
    sheet = tmp_path / "out" / "sheet.svg"
    draw_cluster(head, members, picture_files(tmp_path), sheet)
    drawn = texts(sheet)
    assert "cluster photo-7" in drawn
    assert "4 members, 3 shown" in drawn
    assert "0.9987" in drawn
    assert "0.5000" in drawn
    assert "matched …-e01" in drawn
    assert "1 member without a picture here" in drawn
    assert sheet.read_text(encoding="utf-8").count("<image") == 3


def test_the_carried_pictures_have_labels_and_embeddings() -> None:
    pictures = picture_files(ROOT / PICTURE_FOLDER)
    edits = read_labels(ROOT / PICTURES)
    photographs = {label.image_id: label for label in read_labels(ROOT / SAMPLE) if label.image_id in pictures}
    assert {label.image_id for label in edits} | photographs.keys() == pictures.keys()
    assert {label.split for label in [*edits, *photographs.values()]} == {"test"}
    groups = {label.group_id for label in photographs.values()}
    assert {label.group_id for label in edits} == groups
    assert (len(edits), len(groups)) == (45, 9)
