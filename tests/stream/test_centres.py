"""Centres are the means of a file's embeddings, and what is written is what a signal reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import BadInputError, MismatchError
from core.vector_limits import QUANTILES
from stream.centres import SIGNED_SQRT_SEARCH, read_centres
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.hashing import centre, code_settings, term_settings, vector_limits
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
    file = settings_file(tmp_path, "mine.npz")
    settings = load_settings(file)
    roots = np.sqrt(SEARCH.astype(np.float64))
    for name, vectors in (("search", SEARCH), ("score", SCORE), (SIGNED_SQRT_SEARCH, roots)):
        found = centre(settings, settings.signals["photos"], name)
        assert found is not None
        assert found.dtype == np.float32
        assert found == pytest.approx(vectors.astype(np.float64).mean(axis=0), rel=1e-6)
    assert {each.name for each in tmp_path.iterdir()} == {"mine.npz", "photos.parquet", file.name}


def settings_text(centres: str, normalise: str = "false") -> str:
    return (
        f'[signals.photos]\ncentres = "{centres}"\nmodel = "model"\n[signals.photos.search_embedding]\n'
        f'name = "a"\nmodel_version = "1"\ndimension = 1280\nnormalise = {normalise}\n'
        '[signals.photos.score_embedding]\nname = "b"\nmodel_version = "1"\ndimension = 768\n'
    )


def settings_file(folder: Path, centres: str, normalise: str = "false") -> Path:
    file = folder / f"{centres}-{normalise}.toml"
    file.write_text(settings_text(centres, normalise))
    return file


def test_norms_and_distances_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "mine.npz"
    assert main(["centres", str(photos(tmp_path / "photos.parquet", 300)), str(out)]) == Exit.OK
    centres = read_centres(out)
    for side, vectors in (("search", SEARCH[:300]), ("score", SCORE[:300])):
        wide = vectors.astype(np.float64)
        measured = centres.measured[side]
        assert measured.norms == pytest.approx(np.quantile(np.linalg.norm(wide, axis=1), QUANTILES))
        distances = np.linalg.norm(wide - centres.means[side], axis=1)
        assert measured.distances == pytest.approx(np.quantile(distances, QUANTILES))
        deviations = np.sqrt(((wide - wide.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))
        assert measured.deviations == pytest.approx(np.quantile(deviations, QUANTILES))


def test_a_file_of_the_first_format_still_centres_and_gets_measurements(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "old.npz"
    means = {"search": SEARCH[0].astype("<f4"), "score": SCORE[0], SIGNED_SQRT_SEARCH: SEARCH[1].astype("<f4")}
    np.savez_compressed(out, **means)
    settings = load_settings(settings_file(tmp_path, "old.npz"))
    search, score = vector_limits(settings, settings.signals["photos"])
    assert (search.measured, score.measured) == (None, None)
    assert "--keep-means" in caplog.text

    assert main(["centres", str(photos(tmp_path / "photos.parquet", 40)), str(out), "--keep-means"]) == Exit.OK
    caplog.clear()
    search, score = vector_limits(settings, settings.signals["photos"])
    assert search.measured is not None
    assert score.measured is not None
    assert caplog.text == ""
    for name, mean in means.items():
        found = centre(settings, settings.signals["photos"], name)
        assert found is not None
        assert (found == mean).all()


def test_a_signal_that_normalises_needs_centres_of_normalised_vectors(tmp_path: Path) -> None:
    plain, unit = settings_file(tmp_path, "plain.npz"), settings_file(tmp_path, "unit.npz", "true")
    sample = str(photos(tmp_path / "photos.parquet", 60))
    for file, out in ((plain, "plain.npz"), (unit, "unit.npz")):
        assert main(["--settings", str(file), "centres", sample, str(tmp_path / out)]) == Exit.OK
    settings = load_settings(unit)
    search, score = vector_limits(settings, settings.signals["photos"])
    assert search.measured is not None
    assert search.measured.norms == pytest.approx(np.ones(len(QUANTILES)), abs=1e-6)
    assert score.measured is not None
    assert score.measured.norms[0] > 10
    terms = term_settings(settings, settings.signals["photos"]).build()
    assert (terms.terms(SEARCH[:9]) == terms.terms(SEARCH[:9].astype(np.float32) * 4)).all()

    for normalise, centres in (("true", "plain.npz"), ("false", "unit.npz")):
        wrong = load_settings(settings_file(tmp_path, centres, normalise))
        for check in (vector_limits, term_settings, code_settings):
            with pytest.raises(MismatchError, match=f"normalise = {normalise} of the search embedding"):
                check(wrong, wrong.signals["photos"])


@pytest.mark.parametrize(
    "change",
    [
        {"format": np.array(3)},
        {"search_norms": np.array([1.0, 2.0])},
        {"score_distances": np.array([5.0, 4.0, 3.0, 2.0, 1.0])},
        {"quantiles": np.array([0.0, 0.1, 0.5, 0.9, 1.0])},
    ],
)
def test_a_file_with_other_contents_is_refused(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    out = tmp_path / "mine.npz"
    assert main(["centres", str(photos(tmp_path / "photos.parquet", 9)), str(out)]) == Exit.OK
    with np.load(out) as arrays:
        np.savez_compressed(out, **(dict(arrays) | change))
    with pytest.raises(BadInputError, match=r"mine\.npz"):
        read_centres(out)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"no archive at all"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    out = tmp_path / "mine.npz"
    out.write_bytes(content)
    with pytest.raises(BadInputError, match=r"cannot read the centres in .*mine\.npz"):
        read_centres(out)


def test_what_cannot_be_fitted_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.npz"
    assert main(["centres", str(photos(tmp_path / "none.parquet", 0)), str(out)]) == Exit.USAGE
    broken = SCORE.copy()
    broken[3, 5] = np.nan
    assert main(["centres", str(photos(tmp_path / "broken.parquet", 9, broken)), str(out)]) == Exit.USAGE
    assert "'i3'" in capsys.readouterr().err
    assert not out.exists()
    assert main(["centres", str(photos(tmp_path / "fine.parquet", 9)), str(tmp_path / "no" / "c.npz")]) == Exit.USAGE
