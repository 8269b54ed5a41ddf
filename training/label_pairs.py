"""Turns labels of pairs, as `neardup label` writes them, into groups: linked images are copies of one another.

The file is read in batches, so memory grows with the number of images, not of pairs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import BadInputError
from training.labelled import LabelledPhotos

__all__ = ["check_labels", "with_labels"]

_BATCH = 65_536

_COLUMNS = ("image_a", "image_b", "label")


def check_labels(path: Path) -> None:
    """Checks that a file has the columns of labels.

    Raises:
        BadInputError: It cannot be read, or lacks a column.
    """
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{path} cannot be read as labels ({', '.join(_COLUMNS)}): {error}") from error
    lacking = [name for name in _COLUMNS if name not in names]
    if lacking:
        raise BadInputError(
            f"{path} cannot be read as labels: it lacks the column {lacking[0]!r}; it has {', '.join(names)}"
        )


def with_labels(photos: LabelledPhotos, path: Path) -> LabelledPhotos:
    """The photographs, with the groups of labelled duplicates merged.

    A merged group has the name of its first image. It is in the split test if any of its images is, else in val if any
    is, so that held-out images stay held out. Other pairs are ignored: those labelled different, those without a label,
    and those with an image that is not among the photographs.

    Raises:
        BadInputError: The file cannot be read, lacks a column, or merges no photographs.
    """
    rows = {name: row for row, name in enumerate(photos.image_id.tolist())}
    names, groups = np.unique(photos.group_id, return_inverse=True)
    parents = list(range(len(names)))
    joined = 0
    check_labels(path)
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH, columns=list(_COLUMNS)):
                columns = (batch.column(name).to_pylist() for name in _COLUMNS)
                for one, other, label in zip(*columns, strict=True):
                    if label == 1 and one in rows and other in rows:
                        _join(parents, int(groups[rows[one]]), int(groups[rows[other]]))
                        joined += 1
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{path} cannot be read as labels ({', '.join(_COLUMNS)}): {error}") from error
    if not joined:
        raise BadInputError(
            f"{path} labels no two of the {len(photos):,} photographs as duplicates (its ids must equal image_id)"
        )
    roots = np.array([_root(parents, group) for group in range(len(names))], dtype=np.int64)[groups]
    return _renamed(photos, roots)


def _renamed(photos: LabelledPhotos, roots: NDArray[np.int64]) -> LabelledPhotos:
    _, first, inverse = np.unique(roots, return_index=True, return_inverse=True)
    split = photos.split
    strength = np.select([split == "test", split == "val", split == "train"], [3, 2, 0], default=1)
    order = np.lexsort((-strength, inverse))
    strongest = order[np.unique(inverse[order], return_index=True)[1]]
    return replace(photos, group_id=photos.group_id[first][inverse], split=split[strongest][inverse])


def _root(parents: list[int], group: int) -> int:
    while parents[group] != group:
        parents[group] = parents[parents[group]]
        group = parents[group]
    return group


def _join(parents: list[int], one: int, other: int) -> None:
    parents[_root(parents, other)] = _root(parents, one)
