"""The labels of the sample: which of its images are copies of one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.errors import BadInputError

__all__ = ["PICTURES", "PICTURE_FOLDER", "SAMPLE", "LabelledImage", "read_labels"]

SAMPLE = Path("examples/photos/photos.parquet")
"""The sample that comes with the project."""

PICTURE_FOLDER = Path("examples/photos/demo")
"""The pictures that the project carries, each named after its image."""

PICTURES = PICTURE_FOLDER / "pictures.parquet"
"""Embeddings and labels of the edited pictures; those of their photographs are in the sample."""

TEST_SPLIT = "test"
"""The part of the sample that neither training nor the choice of thresholds has seen."""


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image of the sample: images of one group are copies of one another."""

    image_id: str
    group_id: str
    ignore_group: str
    split: str


def read_labels(path: Path) -> list[LabelledImage]:
    """All images of a sample with their labels.

    Raises:
        BadInputError: The file cannot be read or has no labels.
    """
    columns = ["image_id", "group_id", "ignore_group", "split"]
    try:
        table = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise BadInputError(f"cannot read the labels of {path}: {error}") from error
    missing = set(columns) - set(table.column_names)
    if missing:
        raise BadInputError(f"{path} has no column {', '.join(sorted(missing))}")
    rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    return [LabelledImage(image, group, ignore or "", split) for image, group, ignore, split in rows]
