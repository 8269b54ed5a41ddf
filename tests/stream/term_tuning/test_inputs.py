"""Embeddings and pairs in all their forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError
from stream.term_tuning.inputs import read_embeddings, read_pairs

IDS = ["p", "q", "r", "s"]
VECTORS = np.arange(12, dtype=np.float16).reshape(4, 3)
SCORES = np.arange(8, dtype=np.float16).reshape(4, 2) / 2


def table(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def as_lists(vectors: np.ndarray) -> list[object]:
    return [list(row) for row in vectors.astype(np.float32)]


def test_a_file_and_a_folder_read_alike(tmp_path: Path) -> None:
    file = table(tmp_path / "one.parquet", image_id=IDS, search=as_lists(VECTORS), score=as_lists(SCORES))
    folder = tmp_path / "many"
    folder.mkdir()
    table(folder / "index.parquet", image_id=IDS, klass=["", "", "", ""])
    np.save(folder / "search_f16.npy", VECTORS)
    np.save(folder / "score_f16.npy", SCORES)
    for path in (file, folder):
        read = read_embeddings(path, 3, 2)
        assert read.image_ids == IDS
        assert read.search.dtype == read.score.dtype == np.float32
        assert np.array_equal(read.search, VECTORS)
        assert np.array_equal(read.score, SCORES)
        for dimensions in ((7, 2), (3, 7)):
            with pytest.raises(BadInputError, match="7"):
                read_embeddings(path, *dimensions)


def test_pairs_by_name(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("a,b,how\np,q,x\nq,p,x\nr,unknown,x\ns,s,x\nq,s,x\n")
    found = read_pairs(file, IDS)
    assert found.rows.tolist() == [[0, 1], [1, 3]]
    assert found.ignored is None


def test_pairs_by_group(tmp_path: Path) -> None:
    file = table(
        tmp_path / "labels.parquet",
        image_id=["s", "r", "q", "p", "other"],
        group_id=["g", None, "g", "g", "g"],
        ignore_group=["i", "i", "", None, "j"],
    )
    found = read_pairs(file, IDS)
    assert sorted(sorted(pair) for pair in found.rows.tolist()) == [[0, 1], [0, 3], [1, 3]]
    assert found.ignored is not None
    assert found.ignored.tolist() == [-1, -1, 0, 0]


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    twice = table(tmp_path / "twice.parquet", image_id=["p", "p"], search=[[1.0], [2.0]], score=[[1.0], [2.0]])
    blind = table(tmp_path / "blind.parquet", image_id=["p", "q"], search=[[1.0], [2.0]])
    bare = table(tmp_path / "bare.parquet", image_id=IDS)
    alone = table(tmp_path / "alone.parquet", image_id=IDS, group_id=["a", "b", "c", "d"])
    sources = ((twice, "twice"), (bare, "search"), (blind, "score"), (tmp_path / "none", "none"), (tmp_path, "index"))
    for path, named in sources:
        with pytest.raises(BadInputError, match=named):
            read_embeddings(path, 1, 1)
    for path, named in ((bare, "group_id"), (alone, "no pair"), (tmp_path / "none.csv", "CSV")):
        with pytest.raises(BadInputError, match=named):
            read_pairs(path, IDS)
