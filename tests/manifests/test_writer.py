"""Writing a manifest: what is written is read again, and a run that ends early leaves nothing."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import BadInputError
from core.types import Cause
from manifests.clustered_files import ClusteredBatch
from manifests.folder import LocalFolder, read_manifest
from manifests.image_files import NO_PLACE, ImageBatch
from manifests.manifest import Kind, Manifest
from manifests.rows import read_rows
from manifests.writer import FileSizes, ManifestWriter
from tests.manifests.test_clustered_files import MADE, SIGNAL

SMALL = FileSizes(rows_per_file=10, rows_per_group=4)


def rows(
    first: int, count: int, *, hashed: bool = False, places: bool = False, dtype: Any = np.float16
) -> ClusteredBatch:
    """Some rows that are all different."""
    numbers = np.arange(first, first + count)
    drawn = np.random.default_rng(first)
    images = ImageBatch(
        first,
        [f"image-{number}" for number in numbers],
        numbers % 3,
        np.where(numbers % 2, numbers * 1000, 0),
        drawn.random((count, SIGNAL.search_dimension)).astype(dtype),
        drawn.random((count, SIGNAL.score_dimension)).astype(dtype),
        numbers * 2 if places else np.full(count, NO_PLACE),
    )
    return ClusteredBatch(
        images,
        heads=[None if number % 5 == 4 else f"image-{number - number % 5}" for number in numbers.tolist()],
        causes=[list(Cause)[number % 2] for number in numbers.tolist()],
        scores=np.where(numbers % 4, numbers / 1000, np.nan),
        matched=[None if number % 4 == 0 else "image-0" for number in numbers.tolist()],
        founding_codes=[b"abc" if hashed and number % 5 == 0 else None for number in numbers.tolist()],
        terms=drawn.integers(0, 16, (count, SIGNAL.groups), np.uint32) if hashed else None,
        codes=drawn.integers(0, 256, (count, SIGNAL.code_bytes), np.uint8) if hashed else None,
    )


def told(batch: ClusteredBatch) -> list[tuple[Any, ...]]:
    """The rows as plain values."""
    images, none = batch.images, [None] * len(batch.heads)
    return [
        tuple(map(str, row))
        for row in zip(
            images.image_ids,
            images.versions,
            images.created_at_ms,
            images.search.tolist(),
            images.score.tolist(),
            images.places,
            batch.heads,
            batch.causes,
            batch.scores,
            batch.matched,
            batch.founding_codes,
            none if batch.terms is None else batch.terms.tolist(),
            none if batch.codes is None else batch.codes.tolist(),
            strict=True,
        )
    ]


def read(root: Path, manifest: Manifest) -> list[tuple[Any, ...]]:
    found = read_rows(LocalFolder(root), manifest, SIGNAL, root, at_once=3)
    return [row for each in found for row in told(each.batch)]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(0, 12), max_size=6), hashed=st.booleans(), places=st.booleans())
def test_what_is_written_is_read_again(tmp_path: Path, counts: list[int], hashed: bool, places: bool) -> None:
    root = tmp_path / uuid.uuid4().hex
    folder = LocalFolder(root)
    first, expected = 0, []
    with ManifestWriter(folder, "one", MADE, sizes=SMALL) as writer:
        for count in counts:
            batch = rows(first, count, hashed=hashed, places=places)
            if count:
                writer.add(batch)
            expected += told(batch)
            first += count
        manifest = writer.finish()
    assert read_manifest(folder, "one.json").id == manifest.id
    assert read(root, manifest) == expected if first else manifest.rows == 0
    assert [file.rows for file in manifest.files] == [10] * (first // 10) + [first % 10] * (first % 10 > 0)


def test_files_and_row_groups_have_the_sizes_that_were_asked_for(tmp_path: Path) -> None:
    with ManifestWriter(LocalFolder(tmp_path), "one", MADE, sizes=SMALL) as writer:
        writer.add(rows(0, 7))
        writer.add(rows(7, 18))
        writer.finish()
    files = sorted((tmp_path / "data").iterdir())
    assert [path.name for path in files] == [f"one-00000{number}.parquet" for number in range(3)]
    groups = [pq.ParquetFile(path).metadata for path in files]
    assert [[each.row_group(n).num_rows for n in range(each.num_row_groups)] for each in groups] == [
        [4, 4, 2],
        [4, 4, 2],
        [4, 1],
    ]


def test_a_delta_names_the_manifest_before_it(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with ManifestWriter(folder, "one", MADE) as writer:
        before = writer.finish()
    with ManifestWriter(folder, "two", MADE, Kind.DELTA, before.id) as writer:
        writer.add(rows(0, 3))
        writer.finish()
    found = read_manifest(folder, "two.json")
    assert (found.kind, found.previous) == (Kind.DELTA, before.id)


def write_and_stop(folder: LocalFolder) -> None:
    with ManifestWriter(folder, "one", MADE, sizes=SMALL) as writer:
        writer.add(rows(0, 25))
        raise KeyboardInterrupt


def test_a_run_that_ends_early_leaves_nothing(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(folder)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one-000000.parquet").write_bytes(b"half")
    with ManifestWriter(LocalFolder(tmp_path), "one", MADE) as writer:
        writer.add(rows(0, 3))
        manifest = writer.finish()
    assert read(tmp_path, manifest) == told(rows(0, 3))


def test_a_manifest_is_never_replaced(tmp_path: Path) -> None:
    with ManifestWriter(LocalFolder(tmp_path), "one", MADE) as writer:
        writer.finish()
    with pytest.raises(BadInputError, match="has a manifest one already"):
        ManifestWriter(LocalFolder(tmp_path), "one", MADE)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "one.json", "x" * 101])
def test_a_name_must_be_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInputError, match="no name of a manifest"):
        ManifestWriter(LocalFolder(tmp_path), name, MADE)


def test_rows_of_other_types_are_refused(tmp_path: Path) -> None:
    with ManifestWriter(LocalFolder(tmp_path), "one", MADE) as writer:
        writer.add(rows(0, 3))
        with pytest.raises(BadInputError, match="these rows have the columns"):
            writer.add(rows(3, 3, dtype=np.float32))
