"""`neardup train`: labels of pictures join groups, options arrive, and what is in use is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.model_folder import ModelFolder
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.fake_model import write_version
from tests.support.known_network import KnownFits, known_fits
from tests.support.labelled import SCORE_DIMENSION, SEARCH_DIMENSION, made_up_table
from training import train as training
from training.labelled import file_sha256

DEMO = Path(__file__).parents[2] / "examples" / "photos" / "demo"
ONE, CROP, OTHER = (
    DEMO / f"{name}.jpg" for name in ("clothing-0152ec2ee8", "clothing-0152ec2ee8-1-crop", "clothing-18e573be5a")
)

SETTINGS = f"""
default_signal = "tiny"
[signals.tiny]
search_embedding = {{ name = "s", model_version = "1", dimension = {SEARCH_DIMENSION} }}
score_embedding = {{ name = "c", model_version = "2", dimension = {SCORE_DIMENSION} }}
model = "model"
terms = {{ bits = 64, groups = 24, bits_per_group = 4, candidates = 100 }}
code = {{ bits = 64, projection = "own.npz" }}
"""
"""The projection is not there: only a training that learns one can do without."""


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> KnownFits:
    return known_fits(monkeypatch)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings, pictures, and labelled images of which three have the pictures' ids."""
    (tmp_path / "neardup.toml").write_text(SETTINGS.replace(', projection = "own.npz"', ""), encoding="utf-8")
    (tmp_path / "pictures").mkdir()
    named = {"g-train-0-0": ONE, "g-train-1-0": CROP, "g-train-2-0": OTHER}
    for path in named.values():
        shutil.copy(path, tmp_path / "pictures")
    table = made_up_table()
    ids = [named[image].stem if image in named else image for image in table["image_id"].to_pylist()]
    pq.write_table(table.set_column(0, "image_id", pa.array(ids)), tmp_path / "photos.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_labelled_duplicates_are_trained_on_as_copies(
    folder: Path, fits: KnownFits, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["label", "pictures", "--out", "labels.parquet"]) == Exit.OK
    capsys.readouterr()
    words = ["train", "photos.parquet", "--labels", "labels.parquet", "--seed", "5", "--precision", "0.9"]
    assert main([*words, "--corpus-growth", "3", "--quick", "--json"]) == Exit.OK
    (card,) = json.loads(capsys.readouterr().out)
    told = card["training_settings"]
    assert told["labels"] == file_sha256(folder / "labels.parquet")
    assert (told["seed"], told["precision"], told["corpus_growth"], told["effort"]["rounds"]) == (5, 0.9, 3.0, 3)
    assert ModelFolder(folder / "model").served() == card["version"]
    (fit,) = fits.fits
    group = dict(zip(fit.photos.image_id.tolist(), fit.photos.group_id.tolist(), strict=True))
    assert group[ONE.stem] == group[CROP.stem] == group["g-train-1-2"] != group[OTHER.stem]
    assert fit.settings.seed == 5
    # The same once more is refused, and says where it lies.
    assert main([*words, "--corpus-growth", "3", "--quick"]) == Exit.USAGE
    assert f"the version {card['version']} exists already" in said(capsys)


def test_a_new_projection_leaves_a_folder_in_use_alone(
    folder: Path, fits: KnownFits, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "neardup.toml").write_text(SETTINGS, encoding="utf-8")
    (folder / "model").mkdir()
    write_version(folder / "model", "v1")
    ModelFolder(folder / "model").use("v1")
    words = ["train", "photos.parquet", "--quick", "--fit-projection"]
    assert main([*words, "new.npz"]) == Exit.USAGE
    assert "serves v1, and a newly learnt projection makes other codes" in said(capsys)
    assert main([*words, "own.npz", "--no-serve"]) == Exit.USAGE
    assert "own.npz is the projection of v1" in said(capsys)
    assert fits.fits == []
    assert main([*words, "new.npz", "--no-serve", "--version", "mine"]) == Exit.OK
    assert ModelFolder(folder / "model").served_since() == ["v1"]
    assert main([*words, "new.npz", "--model", "other", "--version", "mine"]) == Exit.OK
    assert ModelFolder(folder / "other").served() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone"], "there is no file or folder gone"),
        (["pictures"], "the folder pictures has no index.parquet"),
        (["photos.parquet", "--labels", "gone.parquet"], "gone.parquet cannot be read as labels"),
        (["photos.parquet", "--splits-of", "gone.parquet"], "gone.parquet cannot be read as Parquet"),
        (["photos.parquet", "--fit-projection", "gone/p.npz"], "there is no folder gone"),
        (["photos.parquet", "--version", "x" * 60, "--large"], "cannot name a model version"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_read(
    folder: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del folder
    monkeypatch.setattr("training.labelled.read_photos", fail)
    monkeypatch.setattr(training, "read_photos", fail)
    assert main(["train", *words]) == Exit.USAGE
    assert message in said(capsys)


def test_leaving_out_with_a_projection_that_saw_everything_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--leave-one-out"]) == Exit.USAGE
    assert "--fit-projection" in said(capsys)


def fail(*_: Any) -> None:
    raise AssertionError("photographs were read")
