"""Fits the decision tree to labelled pairs: the part that needs scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from core.errors import BadInputError
from training.labelling.decision import DecisionTree, Leaf, Split
from training.labelling.verification import FEATURES, Verification

__all__ = ["fit_tree"]


def fit_tree(
    pairs: Sequence[Verification],
    duplicate: Sequence[bool],
    depth: int = 4,
    smallest_leaf: int = 10,
    about: Mapping[str, Any] | None = None,
) -> DecisionTree:
    """Fits a CART tree. Both classes have the same weight, whatever their number of pairs.

    Args:
        pairs: The features of each pair.
        duplicate: Whether each pair is a duplicate.
        depth: The most nodes on a path before its leaf.
        smallest_leaf: The fewest training pairs in a leaf.
        about: Stored with the tree.

    Raises:
        BadInputError: There are no pairs of one class.
    """
    if not any(duplicate) or all(duplicate):
        raise BadInputError(f"{sum(duplicate)} of {len(duplicate)} pairs are duplicates: both kinds are needed")
    usable = [index for index, name in enumerate(FEATURES) if name != "mirrored"]
    values = np.array([pair.values() for pair in pairs], dtype=np.float32)[:, usable]
    fitted = DecisionTreeClassifier(
        max_depth=depth, min_samples_leaf=smallest_leaf, class_weight="balanced", random_state=0
    ).fit(values, np.array(duplicate))
    inner = fitted.tree_
    nodes = tuple(
        Leaf(float(inner.value[index, 0, 1]))
        if inner.children_left[index] < 0
        else Split(
            FEATURES[usable[inner.feature[index]]],
            float(inner.threshold[index]),
            int(inner.children_left[index]),
            int(inner.children_right[index]),
        )
        for index in range(inner.node_count)
    )
    return DecisionTree(nodes, about or {})
