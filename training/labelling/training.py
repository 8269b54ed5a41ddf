"""Trains the decision tree on labelled pictures, and measures it on photographs that it was not trained on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.errors import BadInputError
from training.labelling.decision import DecisionTree
from training.labelling.edits import EDITS, with_same_caption, with_same_frame, with_same_logo
from training.labelling.fitting import fit_tree
from training.labelling.matching import Picture, describe_picture, read_grey, verify
from training.labelling.verification import Verification

__all__ = [
    "Agreement",
    "LabelledPair",
    "LabelledPicture",
    "cross_validate",
    "measured_pairs",
    "read_labelled",
    "train_tree",
]

FOLDS = 3
"""Parts of the photographs in cross-validation."""

_ROUNDS = 2
"""Each edit is made this often of each photograph, with different strengths."""

_SEED = 20_240_601


@dataclass(frozen=True, slots=True)
class LabelledPicture:
    """A picture file, the photograph that it shows, and the kind of edit (empty: none)."""

    path: Path
    source: str
    family: str


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """The verification of two pictures, and whether they are duplicates."""

    sources: tuple[str, str]
    kind: str
    """For copies the edits between the two; for different pictures what they have in common."""
    pair: Verification
    duplicate: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many labels of the tree agree with the known ones, for one kind of pairs."""

    kind: str
    duplicate: bool
    pairs: int
    agreeing: int


def read_labelled(labels: Path) -> list[LabelledPicture]:
    """Reads labels: a CSV with the columns file (relative to the CSV), source_id and, if known, family.

    Raises:
        BadInputError: The file cannot be read, or a column or a value is missing.
    """
    try:
        with labels.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"the labels {labels} cannot be read: {error}") from error
    found = []
    for number, row in enumerate(rows, start=2):
        if not row.get("file") or not row.get("source_id"):
            raise BadInputError(f"line {number} of {labels} lacks file or source_id; columns are {', '.join(row)}")
        found.append(LabelledPicture(labels.parent / row["file"], row["source_id"], row.get("family") or ""))
    photographs = len({one.source for one in found})
    if photographs < FOLDS:
        raise BadInputError(f"{labels} has {photographs} photographs, at least {FOLDS} are needed")
    return found


def train_tree(pairs: Sequence[LabelledPair], depth: int = 4) -> DecisionTree:
    """Trains a tree on these pairs."""
    about = {
        "pairs": len(pairs),
        "duplicates": sum(one.duplicate for one in pairs),
        "photographs": len({source for one in pairs for source in one.sources}),
        "depth": depth,
        "seed": _SEED,
    }
    return fit_tree([one.pair for one in pairs], [one.duplicate for one in pairs], depth, about=about)


def measured_pairs(
    pictures: Sequence[LabelledPicture], progress: Callable[[int, int], None] = lambda done, total: None
) -> list[LabelledPair]:
    """Verifies all pairs of the pictures, each photograph with edits of it, and different photographs made similar.

    Args:
        pictures: With their labels.
        progress: Called with the number of pairs that are done, and of all pairs.

    Raises:
        BadInputError: A picture cannot be read.
    """
    greys = {one.path: read_grey(one.path) for one in pictures}
    described = {path: describe_picture(grey) for path, grey in greys.items()}
    photographs = [one for one in pictures if not one.family]
    total = len(pictures) * (len(pictures) - 1) // 2 + _ROUNDS * len(photographs) * (len(EDITS) + len(_ALIKE))
    found: list[LabelledPair] = []

    def add(first: LabelledPicture, second: LabelledPicture, kind: str, pair: Verification) -> None:
        found.append(LabelledPair((first.source, second.source), kind, pair, first.source == second.source))
        progress(len(found), total)

    for first, second in combinations(pictures, 2):
        kind = _kind(first, second) if first.source == second.source else "different photographs"
        add(first, second, kind, verify(described[first.path], described[second.path]))
    random = np.random.default_rng(_SEED)
    for step in range(1, _ROUNDS + 1):
        for one, other in zip(photographs, photographs[step:] + photographs[:step], strict=True):
            for name, edit in EDITS.items():
                edited = describe_picture(edit(greys[one.path], random))
                add(one, one, f"made here: {name}", verify(described[one.path], edited))
            for name, first_made, second_made in _alike(greys[one.path], greys[other.path], random):
                add(one, other, name, verify(first_made, second_made))
    return found


_ALIKE = {
    "different, same caption": with_same_caption,
    "different, same logo": with_same_logo,
    "different, same frame": with_same_frame,
}


def _alike(
    first: NDArray[np.uint8], second: NDArray[np.uint8], random: np.random.Generator
) -> Iterator[tuple[str, Picture, Picture]]:
    """Two photographs with the same caption, logo or frame on both."""
    for name, put_on in _ALIKE.items():
        number = int(random.integers(1000))
        yield name, describe_picture(put_on(first, number)), describe_picture(put_on(second, number))


def cross_validate(pairs: Sequence[LabelledPair], folds: int = FOLDS, depth: int = 4) -> list[Agreement]:
    """Cross-validation: agreement on pairs of photographs that the tree was not trained on.

    The photographs are split into folds. The tree of a fold is trained on pairs of photographs outside of it, and
    labels the pairs whose photographs are both in it.
    """
    sources = sorted({source for one in pairs for source in one.sources})
    fold_of = {source: index * folds // len(sources) for index, source in enumerate(sources)}
    counted: dict[tuple[str, bool], list[bool]] = {}
    for fold in range(folds):
        inside = [[fold_of[source] == fold for source in one.sources] for one in pairs]
        tree = train_tree([one for one, mark in zip(pairs, inside, strict=True) if not any(mark)], depth)
        for one, mark in zip(pairs, inside, strict=True):
            if all(mark):
                counted.setdefault((one.kind, one.duplicate), []).append(tree.is_duplicate(one.pair) == one.duplicate)
    return [
        Agreement(kind, duplicate, len(agrees), sum(agrees))
        for (kind, duplicate), agrees in sorted(counted.items(), key=lambda item: (not item[0][1], item[0][0]))
    ]


def _kind(first: LabelledPicture, second: LabelledPicture) -> str:
    names = sorted({name for name in (first.family, second.family) if name})
    return " and ".join(names) or "equal"
