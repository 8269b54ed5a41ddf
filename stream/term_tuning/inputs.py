"""The inputs of term tuning: embeddings, and which images are copies of one another.

Embeddings come from a Parquet file with the columns `image_id`, `search` and `score` (lists of float16 or float32), or
from a folder with `index.parquet` (`image_id`), `search_f16.npy` and `score_f16.npy`, in the same order of rows.

Pairs of copies come from a table, CSV or Parquet. It has the columns `a` and `b` (ids of two copies), or `image_id` and
`group_id` (the images of one group are copies of one another). A column `ignore_group` marks images whose pairs are
neither copies nor strangers. Ids of images without an embedding are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import BadInputError

__all__ = ["CopyPairs", "Embeddings", "read_embeddings", "read_pairs"]

MAX_PAIRS = 1_000_000
"""The most pairs that are read; a group of n images has n (n - 1) / 2 of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Images with both embeddings."""

    image_ids: list[str]
    search: NDArray[np.float32]
    """(n, dimension)"""
    score: NDArray[np.float32]
    """(n, score dimension)"""


@dataclass(frozen=True, slots=True, eq=False)
class CopyPairs:
    """Which images are copies of one another, by their rows among the embeddings."""

    rows: NDArray[np.int64]
    """(pairs, 2)"""
    ignored: NDArray[np.int64] | None
    """(images,) the number of each image's ignore group, -1 for none; None: there are no ignore groups."""


def read_embeddings(path: Path, dimension: int, score_dimension: int) -> Embeddings:
    """Reads both embeddings of each image.

    Args:
        path: A Parquet file, or a folder.
        dimension: Elements of a search embedding.
        score_dimension: Elements of a score embedding.

    Raises:
        BadInputError: There is no such file, a column is missing, an id repeats, or vectors have another dimension.
    """
    search: NDArray[Any]
    score: NDArray[Any]
    if path.is_dir():
        table = _parquet(path / "index.parquet", ["image_id"])
        search, score = _array(path / "search_f16.npy"), _array(path / "score_f16.npy")
    else:
        table = _parquet(path, ["image_id", "search", "score"])
        search, score = _stacked(path, table, "search", dimension), _stacked(path, table, "score", score_dimension)
    image_ids = table["image_id"].to_pylist()
    for vectors, elements in ((search, dimension), (score, score_dimension)):
        if vectors.shape != (len(image_ids), elements):
            raise BadInputError(f"{path} has vectors of shape {vectors.shape}, not {(len(image_ids), elements)}")
    if len(set(image_ids)) != len(image_ids):
        raise BadInputError(f"an image_id occurs twice in {path}")
    return Embeddings(image_ids, np.asarray(search, np.float32), np.asarray(score, np.float32))


def read_pairs(path: Path, image_ids: list[str]) -> CopyPairs:
    """Reads which images are copies of one another.

    Raises:
        BadInputError: There is no such file, its columns are not known, or it has too many pairs or none.
    """
    table = _csv(path) if path.suffix == ".csv" else _parquet(path / "index.parquet" if path.is_dir() else path)
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    names = set(table.column_names)
    if {"a", "b"} <= names:
        rows = _known_pairs(table, row_of)
    elif {"image_id", "group_id"} <= names:
        rows = _pairs_of_groups(_by_row(table, "group_id", row_of))
    else:
        raise BadInputError(
            f"{path} has the columns {sorted(names)}; `a` and `b`, or `image_id` and `group_id` are needed"
        )
    if len(rows) == 0:
        raise BadInputError(f"{path} names no pair of copies among the {len(image_ids)} images")
    ignored = None
    if "ignore_group" in names:
        ignored = _numbers(_by_row(table, "ignore_group", row_of))
    return CopyPairs(rows, ignored)


def _known_pairs(table: pa.Table, row_of: dict[str, int]) -> NDArray[np.int64]:
    named = zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)
    known = {tuple(sorted((row_of[a], row_of[b]))) for a, b in named if a in row_of and b in row_of and a != b}
    _check_count(len(known))
    return np.array(sorted(known), np.int64).reshape(-1, 2)


def _by_row(table: pa.Table, column: str, row_of: dict[str, int]) -> list[str]:
    values = [""] * len(row_of)
    for image_id, value in zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True):
        if image_id in row_of:
            values[row_of[image_id]] = value or ""
    return values


def _pairs_of_groups(groups: list[str]) -> NDArray[np.int64]:
    numbers = _numbers(groups)
    order = np.argsort(numbers, kind="stable")
    order = order[numbers[order] >= 0]
    bounds = np.flatnonzero(np.diff(numbers[order])) + 1
    members = np.split(order, bounds)
    _check_count(sum(len(group) * (len(group) - 1) // 2 for group in members))
    pairs = [np.stack([group[i] for i in np.triu_indices(len(group), 1)], axis=1) for group in members]
    return np.concatenate(pairs).astype(np.int64) if pairs else np.empty((0, 2), np.int64)


def _numbers(names: list[str]) -> NDArray[np.int64]:
    """A number for each distinct name, -1 for an empty one."""
    known: dict[str, int] = {"": -1}
    return np.array([known.setdefault(name, len(known) - 1) for name in names], np.int64)


def _check_count(pairs: int) -> None:
    if pairs > MAX_PAIRS:
        raise BadInputError(f"there are {pairs:,} pairs, the limit is {MAX_PAIRS:,}: leave out the largest groups")


def _array(path: Path) -> NDArray[np.float16]:
    try:
        vectors: NDArray[np.float16] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    return vectors


def _stacked(path: Path, table: pa.Table, column: str, dimension: int) -> NDArray[np.float32]:
    rows = table[column].to_numpy(zero_copy_only=False)
    lengths = {-1 if row is None else len(row) for row in rows}
    if lengths - {dimension}:
        raise BadInputError(
            f"vectors `{column}` of {path} have lengths {sorted(lengths)}, the signal's have {dimension}"
        )
    return np.stack(rows) if len(rows) else np.empty((0, dimension), np.float32)


def _parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        table = pq.read_table(path) if columns is None else pq.ParquetFile(path).read(columns)
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{path} cannot be read as Parquet: {error}") from error
    missing = [name for name in columns or [] if name not in table.column_names]
    if missing:
        raise BadInputError(f"{path} lacks the columns {', '.join(missing)}; it has {', '.join(table.column_names)}")
    return table


def _csv(path: Path) -> pa.Table:
    try:
        return pa_csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{path} cannot be read as CSV: {error}") from error
