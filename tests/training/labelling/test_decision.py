"""The decision tree: its file, what is refused, and that it answers as scikit-learn's own does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from core.errors import BadInputError
from training.labelling.decision import DecisionTree, Leaf, Split, read_tree, write_tree
from training.labelling.fitting import fit_tree
from training.labelling.verification import FEATURES, NO_MATCH, Verification

TREE = DecisionTree(
    (Split("inliers", 9.5, 1, 2), Leaf(0.0), Split("correlation", 0.5, 3, 4), Leaf(0.25), Leaf(1.0)), {"pairs": 7}
)


def pair(**values: float) -> Verification:
    return replace(NO_MATCH, **values)


def test_a_pair_goes_its_way() -> None:
    assert TREE.probability(pair(inliers=9)) == 0
    assert TREE.probability(pair(inliers=10, correlation=0.5)) == 0.25
    assert TREE.probability(pair(inliers=10, correlation=0.6)) == 1
    assert [TREE.is_duplicate(pair(inliers=10, correlation=value)) for value in (0.5, 0.6)] == [False, True]


def test_a_tree_survives_its_file(tmp_path: Path) -> None:
    write_tree(TREE, tmp_path / "tree.json")
    assert read_tree(tmp_path / "tree.json") == TREE


def test_the_built_in_tree_tells_a_copy_from_nothing() -> None:
    tree = read_tree()
    copy = Verification(100, 95, 0.95, 0.6, 0.9, 1, 0.8, 0.4, 1, 0, 1, 1, 0.98, 0.9)
    assert tree.is_duplicate(copy)
    assert not tree.is_duplicate(NO_MATCH)


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [{"feature": "inliers", "threshold": 1, "below": 0, "above": 1}, {"probability": 1}],
        [{"feature": "inliers", "threshold": 1, "below": 1, "above": 2}, {"probability": 1}],
        [{"feature": "colour", "threshold": 1, "below": 1, "above": 1}, {"probability": 1}],
        [{"feature": "inliers", "threshold": float("nan"), "below": 1, "above": 1}, {"probability": 1}],
        [{"probability": 1.5}],
        [{"probability": "much"}],
        [{"feature": "inliers"}],
        "none",
    ],
)
def test_a_damaged_tree_is_refused(tmp_path: Path, nodes: object) -> None:
    path = tmp_path / "tree.json"
    path.write_text(json.dumps({"format": 1, "nodes": nodes}))
    with pytest.raises(BadInputError, match="tree"):
        read_tree(path)


def test_missing_unreadable_and_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "tree.json"
    with pytest.raises(BadInputError, match="cannot be read"):
        read_tree(path)
    path.write_text("{")
    with pytest.raises(BadInputError, match="cannot be read"):
        read_tree(path)
    path.write_text('{"format": 9}')
    with pytest.raises(BadInputError, match="has format 9, this release reads 1"):
        read_tree(path)


def test_the_nodes_answer_as_scikit_learn_does() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=(400, len(FEATURES))).astype(np.float32)
    truth = (values[:, 2] + values[:, 5] * values[:, 0] > 0.3) ^ (random.random(400) < 0.1)
    pairs = [Verification(*row.astype(float)) for row in values]
    tree = fit_tree(pairs, truth.tolist(), depth=5, smallest_leaf=5)
    # The last feature, whether a picture was mirrored, is not asked for.
    theirs = DecisionTreeClassifier(max_depth=5, min_samples_leaf=5, class_weight="balanced", random_state=0)
    expected = theirs.fit(values[:, :-1], truth).predict_proba(values[:, :-1])[:, 1]
    np.testing.assert_allclose([tree.probability(one) for one in pairs], expected, atol=1e-12)


def test_one_class_alone_teaches_nothing() -> None:
    with pytest.raises(BadInputError, match="3 of 3 pairs are duplicates"):
        fit_tree([NO_MATCH] * 3, [True] * 3)
