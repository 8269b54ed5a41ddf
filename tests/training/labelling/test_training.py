"""Training of the decision tree: what is read, what is paired, and that no photograph is on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadInputError
from training.labelling import training
from training.labelling.edits import EDITS
from training.labelling.training import (
    Agreement,
    LabelledPair,
    cross_validate,
    measured_pairs,
    read_labelled,
    train_tree,
)
from training.labelling.verification import NO_MATCH

DEMO = Path(__file__).parents[3] / "examples" / "photos" / "demo"


def made_pair(one: str, other: str, inliers: float) -> LabelledPair:
    kind = "crop" if one == other else "different photographs"
    return LabelledPair((one, other), kind, replace(NO_MATCH, inliers=inliers), one == other)


def test_labels_are_read() -> None:
    pictures = read_labelled(DEMO / "demo.csv")
    assert len(pictures) == 54
    assert sum(not one.family for one in pictures) == 9
    assert all(one.path.is_file() for one in pictures)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,family\na.jpg,crop\n", "line 2 of .* lacks file or source_id; columns are file, family"),
        ("file,source_id\na.jpg,x\n,x\n", "line 3"),
        ("file,source_id\na.jpg,x\nb.jpg,x\n", "has 1 photographs, at least 3 are needed"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_labelled(tmp_path / "labels.csv")


def test_pairs_of_two_photographs_with_one_copy_each_and_those_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "EDITS", {name: EDITS[name] for name in ("mirror", "tilt", "jpeg")})
    names = ("clothing-0152ec2ee8", "clothing-18e573be5a")
    pictures = [
        one
        for one in read_labelled(DEMO / "demo.csv")
        if one.path.stem in {*names, *(f"{name}-1-crop" for name in names)}
    ]
    told: list[tuple[int, int]] = []
    pairs = measured_pairs(pictures, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(pairs), len(pairs))
    assert {one.kind for one in pairs if not one.duplicate} == {
        "different photographs",
        "different, same caption",
        "different, same frame",
        "different, same logo",
    }
    assert [one.kind for one in pairs].count("crop") == 2
    assert [one.kind for one in pairs].count("made here: mirror") == 4
    tree = train_tree(pairs)
    assert tree.about["photographs"] == 2
    assert sum(tree.is_duplicate(one.pair) == one.duplicate for one in pairs) >= 0.95 * len(pairs)


def test_a_photograph_is_labelled_by_a_tree_that_has_not_seen_it() -> None:
    # Copies of `odd` look like different photographs elsewhere: a tree that had seen them would know.
    usual = [made_pair(name, name, 50) for name in "abcd" for _ in range(20)]
    different = [made_pair(one, other, 5) for one in "abcd" for other in "abcd" if one < other for _ in range(5)]
    odd = [made_pair("odd", "odd", 5) for _ in range(20)]
    agreements = cross_validate([*usual, *different, *odd], folds=5)
    assert Agreement("crop", True, 100, 80) in agreements
