"""The rows of a manifest over its files: what an index reads, and where a row lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.clustered_files import Signal
from manifests.folder import LocalFolder
from manifests.rows import located, read_index_rows, read_rows, read_stretches
from tests.search.loading.manifest_of import CODE, SIGNAL, TERMS, given, images

WANTED = Signal(SIGNAL, 24, 12, TERMS.fingerprint, 4, 2, CODE.build().fingerprint, 2)


@pytest.mark.parametrize("start", [0, 3, 7, 19, 20, 50])
def test_they_begin_anywhere(tmp_path: Path, start: int) -> None:
    records = images(50, 1)
    source = given(tmp_path, records, 20)  # row groups of 7
    folder = LocalFolder(source.root)
    ids: dict[int, str] = {}
    for first, batch in read_index_rows(folder, source.manifest, WANTED, tmp_path, 3, start):
        ids.update(enumerate(batch.image_ids, first))
    assert ids == {row: records[row].image_id for row in range(start, 50)}
    for numbered in read_rows(folder, source.manifest, WANTED, tmp_path, 3, start):
        for row, image_id in enumerate(numbered.batch.images.image_ids, numbered.first):
            assert ids.pop(row) == image_id
    assert ids == {}


def test_stretches_are_read_without_what_lies_between(tmp_path: Path) -> None:
    """At most so many rows from each start; a file without a start is not opened."""
    records = images(50, 1)
    source = given(tmp_path, records, 20)  # row groups of 7
    (source.root / "data/part-1.parquet").unlink()
    read = list(read_stretches(LocalFolder(source.root), source.manifest, WANTED, tmp_path, [0, 14, 19, 43], 3))
    assert [each.first for each in read] == [0, 14, 19, 43]
    assert [len(each.batch.images.image_ids) for each in read] == [3, 3, 1, 3]
    for each in read:
        rows = records[each.first : each.first + 3]
        assert each.batch.images.image_ids == [row.image_id for row in rows][: len(each.batch.images.image_ids)]
    assert list(read_stretches(LocalFolder(source.root), source.manifest, WANTED, tmp_path, [], 3)) == []


def test_each_row_lies_in_a_file(tmp_path: Path) -> None:
    manifest = given(tmp_path, images(50, 1), 20).manifest
    assert [located(manifest, row) for row in (0, 19, 20, 49)] == [
        ("data/part-0.parquet", 0),
        ("data/part-0.parquet", 19),
        ("data/part-1.parquet", 0),
        ("data/part-2.parquet", 9),
    ]
    with pytest.raises(IndexError, match="has 50 rows, and not row 50"):
        located(manifest, 50)
