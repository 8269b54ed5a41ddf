"""The first pass: rows that do not fit together are named by file and row."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import BadInputError
from core.types import ImageId
from manifests.folder import LocalFolder
from storage.loading.identities import checked_identities
from tests.support.loadable import SIGNAL, LoadableRow, random_rows, write_manifest

A, B, C = (ImageId(each) for each in "abc")


def test_rows_that_fit_together(tmp_path: Path) -> None:
    rows = random_rows(3, 100)
    seen: list[int] = []
    found = checked_identities(LocalFolder(tmp_path), write_manifest(tmp_path, rows), SIGNAL, tmp_path, seen.append)
    assert found.images == 100
    assert found.clusters == len({row.head for row in rows if row.head == row.image_id})
    assert len(found.superseded) == len(rows) - 100
    assert seen[-1] == len(rows)
    assert not list(tmp_path.glob("identities-*"))


def test_the_first_problems_are_named_and_the_others_counted(tmp_path: Path) -> None:
    rows = [LoadableRow(A, A), LoadableRow(A, A), *(LoadableRow(ImageId(f"i{n}"), C) for n in range(3))]
    rows += [LoadableRow(B, A), LoadableRow(C, B)]
    manifest = write_manifest(tmp_path, rows, per_file=2)
    with pytest.raises(BadInputError) as caught:
        checked_identities(LocalFolder(tmp_path), manifest, SIGNAL, tmp_path, lambda rows: None)
    first, second, third, more = str(caught.value).split("; ")
    assert (
        first == "data/part-000000.parquet: row 1: has the same image and version as row 0 of data/part-000000.parquet"
    )
    assert second == (
        "data/part-000002.parquet: row 0: names a head that is in another cluster by row 0 of data/part-000006.parquet"
    )
    assert third.startswith("data/part-000002.parquet: row 1: names a head")
    assert more == "and 2 more"
