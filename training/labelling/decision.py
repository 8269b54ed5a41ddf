"""The decision tree that labels a pair by its verification; read from JSON and written to it. Pure.

    {"format": 1, "features": [...], "nodes": [{"feature": "inliers", "threshold": 9.5, "below": 1, "above": 2},
                                               {"probability": 0.01}, ...], ...}

Node 0 is the root. A pair goes to node `below` if its feature is at most the threshold, else to node `above`. A leaf
has the share of duplicates among the training pairs that reached it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import BadInputError
from training.labelling.verification import FEATURES, Verification

__all__ = ["BUILT_IN", "DecisionTree", "Leaf", "Split", "read_tree", "write_tree"]

TREE_FORMAT = 1
"""Increased when a reader of the old format would misunderstand the new one."""

BUILT_IN = Path(__file__).with_name("tree.json")
"""The tree in this package; `neardup label-tree` made it."""

_MAX_NODES = 10_000


@dataclass(frozen=True, slots=True)
class Split:
    """An inner node."""

    feature: str
    threshold: float
    below: int
    above: int


@dataclass(frozen=True, slots=True)
class Leaf:
    """An end node."""

    probability: float


@dataclass(frozen=True, slots=True)
class DecisionTree:
    """A tree in which every path ends at a leaf; this is checked."""

    nodes: tuple[Split | Leaf, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    """How it was trained, for human readers."""

    def __post_init__(self) -> None:
        """Checks that every path ends: children come after their parent."""
        if not 1 <= len(self.nodes) <= _MAX_NODES:
            raise BadInputError(f"a decision tree has 1 to {_MAX_NODES} nodes, not {len(self.nodes)}")
        for index, node in enumerate(self.nodes):
            match node:
                case Leaf(probability=value):
                    if not 0 <= value <= 1:
                        raise BadInputError(f"node {index} of the decision tree has the probability {value}")
                case Split(feature=name, threshold=value, below=below, above=above):
                    if name not in FEATURES or not isfinite(value):
                        raise BadInputError(f"node {index} of the decision tree compares {name!r} with {value}")
                    if not (index < below < len(self.nodes) and index < above < len(self.nodes)):
                        raise BadInputError(f"node {index} of the decision tree has the children {below} and {above}")

    def probability(self, pair: Verification) -> float:
        """The share of duplicates among the training pairs in this pair's leaf."""
        node = self.nodes[0]
        while isinstance(node, Split):
            # Training compared float32 values.
            value = np.float32(getattr(pair, node.feature))
            node = self.nodes[node.below if value <= node.threshold else node.above]
        return node.probability

    def is_duplicate(self, pair: Verification) -> bool:
        """Whether most training pairs in this pair's leaf were duplicates."""
        return self.probability(pair) > 0.5


def write_tree(tree: DecisionTree, path: Path) -> None:
    """Writes a tree as JSON."""
    nodes = [
        {"probability": node.probability}
        if isinstance(node, Leaf)
        else {"feature": node.feature, "threshold": node.threshold, "below": node.below, "above": node.above}
        for node in tree.nodes
    ]
    values = {"format": TREE_FORMAT, "features": list(FEATURES), "nodes": nodes, "about": dict(tree.about)}
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def read_tree(path: Path = BUILT_IN) -> DecisionTree:
    """Reads and checks a tree.

    Raises:
        BadInputError: It is missing, damaged, or of another format.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInputError(f"the decision tree {path} cannot be read: {error}") from error
    found = values.get("format") if isinstance(values, dict) else None
    if found != TREE_FORMAT:
        raise BadInputError(f"the decision tree {path} has format {found}, this release reads {TREE_FORMAT}")
    try:
        return DecisionTree(tuple(_node(one) for one in values["nodes"]), values.get("about", {}))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"the decision tree {path} is damaged: {type(error).__name__} {error}") from error


def _node(values: Mapping[str, Any]) -> Split | Leaf:
    if "probability" in values:
        return Leaf(float(values["probability"]))
    return Split(str(values["feature"]), float(values["threshold"]), int(values["below"]), int(values["above"]))
