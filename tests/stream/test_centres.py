"""Centres are the means of a file's embeddings, and what is written is what a signal reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stream.centres import SIGNED_SQRT_SEARCH
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.hashing import centre
from stream.settings import load_settings

SEARCH = np.random.default_rng(1).random((700, 1280)).astype(np.float16)
SCORE = np.random.default_rng(2).random((700, 768)).astype(np.float32)


def photos(path: Path, rows: int, score: np.ndarray = SCORE) -> Path:
    columns = {
        "image_id": [f"i{row}" for row in range(rows)],
        "search": pa.FixedSizeListArray.from_arrays(pa.array(SEARCH[:rows].ravel()), 1280),
        "score": pa.FixedSizeListArray.from_arrays(pa.array(score[:rows].ravel()), 768),
    }
    pq.write_table(pa.table(columns), path)
    return path


def test_a_signal_reads_what_was_fitted(tmp_path: Path) -> None:
    out = tmp_path / "mine.npz"
    assert main(["centres", str(photos(tmp_path / "photos.parquet", 700)), str(out)]) == Exit.OK
    file = tmp_path / "some.toml"
    file.write_text('[signals.photos]\ncentres = "mine.npz"\nmodel = "model"\n[signals.photos.search_embedding]\n'
                    'name = "a"\nmodel_version = "1"\ndimension = 1280\n[signals.photos.score_embedding]\n'
                    'name = "b"\nmodel_version = "1"\ndimension = 768\n')  # fmt: skip
    settings = load_settings(file)
    roots = np.sqrt(SEARCH.astype(np.float64))
    for name, vectors in (("search", SEARCH), ("score", SCORE), (SIGNED_SQRT_SEARCH, roots)):
        found = centre(settings, settings.signals["photos"], name)
        assert found is not None
        assert found.dtype == np.float32
        assert found == pytest.approx(vectors.astype(np.float64).mean(axis=0), rel=1e-6)
    assert {each.name for each in tmp_path.iterdir()} == {"mine.npz", "photos.parquet", "some.toml"}


def test_what_cannot_be_fitted_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.npz"
    assert main(["centres", str(photos(tmp_path / "none.parquet", 0)), str(out)]) == Exit.USAGE
    broken = SCORE.copy()
    broken[3, 5] = np.nan
    assert main(["centres", str(photos(tmp_path / "broken.parquet", 9, broken)), str(out)]) == Exit.USAGE
    assert "'i3'" in capsys.readouterr().err
    assert not out.exists()
    assert main(["centres", str(photos(tmp_path / "fine.parquet", 9)), str(tmp_path / "no" / "c.npz")]) == Exit.USAGE
