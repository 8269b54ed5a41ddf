"""Labelled photographs with both embeddings, read from Parquet for training and evaluation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import BadInputError

__all__ = [
    "EDIT",
    "SPLITS",
    "LabelledPhotos",
    "assign_splits",
    "check_photos",
    "check_splits",
    "data_sha256",
    "file_sha256",
    "keep_splits",
    "move_test_to_train",
    "read_photos",
]

EDIT = "edit"
"""The `kind` of an image that was made from another one; all other images are photographs."""

_LABELS = ("image_id", "group_id", "source_id", "kind", "family", "ignore_group", "split", "dataset")

_OPTIONAL = ("source_id", "kind", "family", "ignore_group", "split", "dataset")

SPLITS = (("train", 0.60), ("val", 0.15), ("test", 0.25))
"""Shares of the groups, if the labels name no splits."""


@dataclass(frozen=True, eq=False, slots=True)
class LabelledPhotos:
    """Labelled images; every array has one entry (or row) per image.

    group_id       the true cluster
    source_id      the photograph that an edit was made from; the image's own id for photographs, or if it is unknown
    kind           `EDIT`, or anything else for a photograph
    family         the kind of edit
    ignore_group   pairs of equal, non-empty ignore groups but different groups are neither copies nor different
    split          train, val or test
    dataset        where the image comes from
    """

    image_id: NDArray[np.str_]
    group_id: NDArray[np.str_]
    source_id: NDArray[np.str_]
    kind: NDArray[np.str_]
    family: NDArray[np.str_]
    ignore_group: NDArray[np.str_]
    split: NDArray[np.str_]
    dataset: NDArray[np.str_]
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

    def unclear(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which pairs of images (rows) are neither copies nor different."""
        shared = (self.ignore_group[left] != "") & (self.ignore_group[left] == self.ignore_group[right])
        unclear: NDArray[np.bool_] = shared & (self.group_id[left] != self.group_id[right])
        return unclear

    @property
    def is_photo(self) -> NDArray[np.bool_]:
        """Which images are photographs, not edits."""
        mask: NDArray[np.bool_] = self.kind != EDIT
        return mask


def read_photos(path: Path, search_dimension: int, score_dimension: int) -> LabelledPhotos:
    """Reads labelled photographs: a Parquet file, or a folder.

    Columns: image_id, group_id, source_id, kind, family, ignore_group, split, dataset (strings; all but the first two
    may be missing or null, which means "", so a photograph), and search and score (lists of float16 or float32 of the
    given lengths). An edit without a source_id gets the photograph of its group, if the group has exactly one. In a
    folder, `index.parquet` has the labels; row n of `search_f16.npy` and `score_f16.npy` belongs to its row n. If no
    image has the split train, val or test, groups get a split by their names (`assign_splits`).

    Raises:
        BadInputError: A file cannot be read, a column is missing or of another type or length, an id repeats, or the
            images of a group have two splits.
    """
    table_path = _labels_file(path)
    try:
        table = pq.read_table(table_path)
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{table_path} cannot be read as Parquet: {error}") from error
    labels = {name: _strings(table, name, table_path) for name in _LABELS}
    if len(np.unique(labels["image_id"])) != table.num_rows:
        raise BadInputError(f"an image_id occurs twice in {table_path}")
    if not np.isin(labels["split"], [name for name, _ in SPLITS]).any():
        labels["split"] = assign_splits(labels["group_id"])
    _split_of_group(labels["group_id"], labels["split"], table_path)
    labels["source_id"] = _sources(labels)
    if path.is_dir():
        search, score = (
            _array(path / f"{name}_f16.npy", table.num_rows, dimension)
            for name, dimension in (("search", search_dimension), ("score", score_dimension))
        )
    else:
        search = _vectors(table, "search", search_dimension, path)
        score = _vectors(table, "score", score_dimension, path)
    return LabelledPhotos(**labels, search=search, score=score)


def check_photos(path: Path) -> None:
    """Checks that the files for `read_photos` exist.

    Raises:
        BadInputError: One is missing.
    """
    for file in _data_files(path):
        if not file.is_file():
            raise BadInputError(f"there is no file {file}")


def check_splits(path: Path) -> None:
    """Checks that a file has the splits of groups.

    Raises:
        BadInputError: It cannot be read, lacks a column, or has a group in two splits.
    """
    _splits_by_group(path)


def assign_splits(groups: NDArray[np.str_]) -> NDArray[np.str_]:
    """A split for each image, in the shares of `SPLITS`. A group always gets the same split: it depends on its name."""
    ends = np.cumsum([share for _, share in SPLITS])
    names = [name for name, _ in SPLITS]

    def split(group: str) -> str:
        place = int(hashlib.sha256(f"neardup {group}".encode()).hexdigest()[:8], 16) / 2**32
        return names[min(int(np.searchsorted(ends, place, side="right")), len(names) - 1)]

    found = {group: split(group) for group in np.unique(groups).tolist()}
    return np.array([found[group] for group in groups.tolist()], dtype=np.str_)


def keep_splits(photos: LabelledPhotos, path: Path) -> LabelledPhotos:
    """The photographs; groups that a Parquet file of labelled images names get the splits that they have there.

    Raises:
        BadInputError: The file cannot be read, lacks a column, or has a group in two splits.
    """
    kept = _splits_by_group(path)
    pairs = zip(photos.group_id.tolist(), photos.split.tolist(), strict=True)
    return replace(photos, split=np.array([kept.get(group, split) for group, split in pairs], dtype=np.str_))


def move_test_to_train(photos: LabelledPhotos, kept: Path | None) -> LabelledPhotos:
    """The photographs, with the test split moved to train. Groups in the Parquet file `kept` keep their splits.

    Raises:
        BadInputError: The file cannot be read, lacks a column, or has a group in two splits.
    """
    groups = list(_splits_by_group(kept)) if kept is not None else []
    moved = (photos.split == "test") & ~np.isin(photos.group_id, groups)
    return replace(photos, split=np.where(moved, "train", photos.split))


def data_sha256(path: Path) -> str:
    """SHA-256 (hex) of the file that `read_photos` reads; for a folder, of the checksums of its three files."""
    files = _data_files(path)
    if len(files) == 1:
        return file_sha256(files[0])
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _labels_file(path: Path) -> Path:
    """The Parquet file with the labels: the path itself, or the one in the folder."""
    if not path.exists():
        raise BadInputError(f"there is no file or folder {path}")
    if not path.is_dir():
        return path
    file = path / "index.parquet"
    if not file.is_file():
        raise BadInputError(f"the folder {path} has no index.parquet with the labels of its images")
    return file


def _data_files(path: Path) -> list[Path]:
    labels = _labels_file(path)
    return [labels, *(path / f"{name}_f16.npy" for name in ("search", "score"))] if path.is_dir() else [labels]


def _splits_by_group(path: Path) -> dict[str, str]:
    try:
        table = pq.read_table(path, columns=["group_id", "split"])
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"{path} cannot be read as Parquet: {error}") from error
    return _split_of_group(_strings(table, "group_id", path), _strings(table, "split", path), path)


def _split_of_group(groups: NDArray[np.str_], splits: NDArray[np.str_], path: Path) -> dict[str, str]:
    """The split of each group. Its images must agree, or training would see copies of images that it is judged on."""
    found: dict[str, str] = {}
    for group, split in zip(groups.tolist(), splits.tolist(), strict=True):
        if found.setdefault(group, split) != split:
            raise BadInputError(
                f"the group {group!r} of {path} is in two splits, {found[group]!r} and {split!r}: all images of a "
                "group must have the same split"
            )
    return found


def _sources(labels: dict[str, NDArray[np.str_]]) -> NDArray[np.str_]:
    """The photograph that each image was made from; the image itself if that is unknown."""
    is_edit = labels["kind"] == EDIT
    photographs: dict[str, list[str]] = {}
    for group, image in zip(labels["group_id"][~is_edit].tolist(), labels["image_id"][~is_edit].tolist(), strict=True):
        photographs.setdefault(group, []).append(image)
    found = labels["image_id"].tolist()
    for row in np.flatnonzero(is_edit).tolist():
        only = photographs.get(str(labels["group_id"][row]), [])
        found[row] = str(labels["source_id"][row]) or (only[0] if len(only) == 1 else found[row])
    return np.array(found, dtype=np.str_)


def _strings(table: pa.Table, name: str, path: Path) -> NDArray[np.str_]:
    if name not in table.column_names:
        if name in _OPTIONAL:
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


def _array(path: Path, rows: int, dimension: int) -> NDArray[np.float32]:
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    if vectors.shape != (rows, dimension) or vectors.dtype.kind != "f":
        raise BadInputError(f"{path} holds {vectors.shape} {vectors.dtype}, not ({rows}, {dimension}) floats")
    single: NDArray[np.float32] = vectors.astype(np.float32)
    return single
