"""Labelled photographs with both embeddings, as training and evaluation read them from a Parquet file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from search.errors import BadInputError

__all__ = ["EDIT", "LabelledPhotos", "file_sha256", "read_photos"]

EDIT = "edit"
"""The `kind` of an image that was made from another; all others are photographs."""

_LABELS = ("image_id", "group_id", "kind", "family", "ignore_group", "split")


@dataclass(frozen=True, eq=False, slots=True)
class LabelledPhotos:
    """Rows of images; all arrays have one entry (or row) per image.

    `group_id` is the truth for clusters; `ignore_group`, where not empty, marks images whose pairs across groups are
    neither copies nor different; `family` names what was done to an edit.
    """

    image_id: NDArray[np.str_]
    group_id: NDArray[np.str_]
    kind: NDArray[np.str_]
    family: NDArray[np.str_]
    ignore_group: NDArray[np.str_]
    split: NDArray[np.str_]
    search: NDArray[np.float32]
    """(n, search dimension)"""
    score: NDArray[np.float32]
    """(n, score dimension)"""

    def __len__(self) -> int:
        return len(self.image_id)

    def where(self, mask: NDArray[np.bool_] | NDArray[np.int64]) -> LabelledPhotos:
        """The images of a mask (or of positions), in its order."""
        return LabelledPhotos(*(getattr(self, item.name)[mask] for item in fields(self)))

    def of(self, *splits: str) -> LabelledPhotos:
        """The images of some splits, in order."""
        return self.where(np.isin(self.split, splits))

    @property
    def is_photo(self) -> NDArray[np.bool_]:
        """Which images are photographs, not edits."""
        mask: NDArray[np.bool_] = self.kind != EDIT
        return mask


def read_photos(path: Path, search_dimension: int, score_dimension: int) -> LabelledPhotos:
    """Reads a file of labelled photographs.

    Columns: image_id, group_id, kind, family, ignore_group, split (strings; `kind`, `family`, `ignore_group` may be
    missing or null: photographs, "", ""), search and score (lists of float16 or float32 of the given lengths).

    Raises:
        BadInputError: The file cannot be read, a column is missing or of another type or length, an id repeats.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{path} cannot be read as Parquet: {error}") from error
    labels = {name: _strings(table, name, path) for name in _LABELS}
    if len(np.unique(labels["image_id"])) != table.num_rows:
        raise BadInputError(f"an image_id occurs twice in {path}")
    return LabelledPhotos(
        **labels,
        search=_vectors(table, "search", search_dimension, path),
        score=_vectors(table, "score", score_dimension, path),
    )


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _strings(table: pa.Table, name: str, path: Path) -> NDArray[np.str_]:
    if name not in table.column_names:
        if name in ("kind", "family", "ignore_group"):
            return np.full(table.num_rows, "")
        raise BadInputError(f"{path} lacks the column {name!r}; it has {', '.join(table.column_names)}")
    values = table[name].to_pylist()
    if not all(value is None or isinstance(value, str) for value in values):
        raise BadInputError(f"the column {name!r} of {path} is {table.schema.field(name).type}, not string")
    return np.array([value or "" for value in values], dtype=np.str_)


def _vectors(table: pa.Table, name: str, dimension: int, path: Path) -> NDArray[np.float32]:
    if name not in table.column_names:
        raise BadInputError(f"{path} lacks the column {name!r}; it has {', '.join(table.column_names)}")
    rows = table[name].to_numpy(zero_copy_only=False)
    lengths = {-1 if row is None else len(row) for row in rows}
    if lengths - {dimension}:
        raise BadInputError(f"vectors of the column {name!r} of {path} have lengths {sorted(lengths)}, not {dimension}")
    try:
        vectors = np.stack(rows) if len(rows) else np.empty((0, dimension))
        return vectors.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"the column {name!r} of {path} holds no numbers: {error}") from error
