"""Labels pairs of pictures by geometry, and writes the labels as the Parquet file that training reads.

image_a, image_b   string: ids
label              int8: 1 near-duplicates, 0 different; null if a picture could not be read or has too little structure
probability        float32: the share of duplicates in the leaf of the decision tree; null without a label
problem            string: why there is no label; null with a label
matches, ...       float32: the features of the verification (`training.labelling.verification.FEATURES`)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BadInputError
from core.files import replacing
from training.labelling.decision import DecisionTree
from training.labelling.verification import FEATURES, Verification

__all__ = ["SCHEMA", "Label", "label_pairs", "write_labels"]

SCHEMA = pa.schema(
    [
        ("image_a", pa.string()),
        ("image_b", pa.string()),
        ("label", pa.int8()),
        ("probability", pa.float32()),
        ("problem", pa.string()),
        *((name, pa.float32()) for name in FEATURES),
    ]
)
"""The columns of the file of labels."""

_HELD = 2_000
"""Pictures in memory with their local features, about 0.8 MB each."""

_ROW_GROUP = 10_000


@dataclass(frozen=True, slots=True)
class Label:
    """The label of one pair."""

    image_a: str
    image_b: str
    duplicate: bool | None
    """None: a picture could not be read, or has too little structure to tell; `problem` says why."""
    probability: float | None = None
    verification: Verification | None = None
    problem: str | None = None


def label_pairs(
    pairs: Iterable[tuple[str, str]],
    images: Mapping[str, Path],
    tree: DecisionTree,
    held: int = _HELD,
) -> Iterator[Label]:
    """Labels pairs, one at a time and in order.

    Args:
        pairs: Pairs of image ids.
        images: The file of each image.
        tree: Decides.
        held: Pictures that are kept in memory with their features; the last used ones.
    """
    from training.labelling.matching import Picture, read_picture, same_pixels, verify

    described: OrderedDict[str, Picture | str] = OrderedDict()

    def picture(image: str) -> Picture | str:
        """The picture, or why there is none."""
        if image not in described:
            try:
                described[image] = read_picture(images[image])
            except BadInputError as error:
                described[image] = str(error)
            while len(described) > max(2, held):
                described.popitem(last=False)
        described.move_to_end(image)
        return described[image]

    for image_a, image_b in pairs:
        first, second = picture(image_a), picture(image_b)
        if isinstance(first, str) or isinstance(second, str):
            yield Label(image_a, image_b, None, problem=first if isinstance(first, str) else str(second))
            continue
        found = verify(first, second)
        if not (first.tells and second.tells):
            yield _without_features(image_a, image_b, found, same=same_pixels(images[image_a], images[image_b]))
            continue
        yield Label(image_a, image_b, tree.is_duplicate(found), tree.probability(found), found)


def _without_features(image_a: str, image_b: str, found: Verification, *, same: bool) -> Label:
    """Of a pair in which a picture has no structure: only equal pixels say anything."""
    if same:
        return Label(image_a, image_b, True, 1.0, found)
    problem = "a picture has too few local features, such as one of a single colour: geometry cannot tell"
    return Label(image_a, image_b, None, verification=found, problem=problem)


def write_labels(
    labels: Iterable[Label], path: Path, progress: Callable[[int], None] = lambda done: None
) -> tuple[int, int, int]:
    """Writes labels as Parquet, in constant memory. The file gets its name when it is complete.

    Returns:
        The number of pairs that are duplicates, different, and without a label.

    Raises:
        BadInputError: The file cannot be written.
    """
    counts = [0, 0, 0]
    rows = iter(labels)
    try:
        with replacing(path) as draft, pq.ParquetWriter(draft, SCHEMA) as writer:
            while group := list(islice(rows, _ROW_GROUP)):
                writer.write_table(_table(group))
                for label in group:
                    counts[2 if label.duplicate is None else 0 if label.duplicate else 1] += 1
                progress(sum(counts))
    except OSError as error:
        raise BadInputError(f"the labels cannot be written to {path}: {error.strerror or error}") from error
    return counts[0], counts[1], counts[2]


def _table(labels: list[Label]) -> pa.Table:
    columns: dict[str, list[object]] = {
        "image_a": [one.image_a for one in labels],
        "image_b": [one.image_b for one in labels],
        "label": [None if one.duplicate is None else int(one.duplicate) for one in labels],
        "probability": [one.probability for one in labels],
        "problem": [one.problem for one in labels],
    }
    for name in FEATURES:
        columns[name] = [None if one.verification is None else getattr(one.verification, name) for one in labels]
    return pa.table(columns, schema=SCHEMA)
