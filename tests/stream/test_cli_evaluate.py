"""`neardup evaluate` on the sample: its JSON, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from search.scoring.card import read_card
from search.scoring.labelled import data_sha256
from search.scoring.model_folder import ModelFolder
from stream.cli.exits import Exit
from stream.cli.main import main

SAMPLE = Path(__file__).parents[2] / "examples" / "photos" / "photos.parquet"


def test_json_has_the_figures_at_its_top_level(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    arguments = ["evaluate", str(SAMPLE), "--split", "test", "--orders", "1", "--plots", str(plots), "--json"]
    assert main(arguments) == Exit.OK
    report = json.loads(capsys.readouterr().out)
    figures = ("precision_at_accept", "recall_at_precision_0.99", "bcubed_precision", "bcubed_recall", "bcubed_f1")
    assert all(0 < report[name] <= 1 for name in figures)
    assert report["images"] == 2100
    assert report["images_counted"] == 733
    assert set(report["thresholds"]) == {"accept", "head_accept", "adopt"}
    assert "crop" in report["families"]
    assert len(list(plots.glob("*.png"))) == 4


def test_a_folder_tells_named_pairs_apart_and_whether_the_model_knew_the_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two photographs of the sample with their edits, and one more: the scene is of two, the natural copy of one."""
    table = pq.read_table(SAMPLE)
    groups = np.array(table["group_id"].to_pylist())
    kinds = np.array(table["kind"].to_pylist())
    first, second = np.unique(groups[kinds == "source"])[:2]
    rows = np.flatnonzero(np.isin(groups, [first, second]))
    small = table.take(rows)
    pq.write_table(small.drop_columns(["search", "score"]), tmp_path / "index.parquet")
    for name in ("search", "score"):
        np.save(tmp_path / f"{name}_f16.npy", np.stack(small[name].to_numpy(zero_copy_only=False)).astype(np.float16))
    ids = {group: np.array(small["image_id"].to_pylist())[groups[rows] == group] for group in (first, second)}
    (tmp_path / "same_scene_pairs.csv").write_text(f"a,b\n{ids[first][0]},{ids[second][1]}\n", encoding="utf-8")
    (tmp_path / "natural_pairs.csv").write_text(f"a,b\n{ids[first][0]},{ids[first][1]}\n", encoding="utf-8")
    # The same model, as if these images had been its training.
    shutil.copytree(SAMPLE.parent / "model", tmp_path / "model")
    models = ModelFolder(tmp_path / "model")
    card = models.path(models.served()) / "metadata.json"
    known = read_card(card.parent).training_sha256
    card.write_text(card.read_text(encoding="utf-8").replace(known, data_sha256(tmp_path)), encoding="utf-8")
    text = (SAMPLE.parents[2] / "neardup.toml").read_text(encoding="utf-8")
    text = text.replace('"examples/photos/model"', '"model"').replace("examples/photos", str(SAMPLE.parent))
    (tmp_path / "neardup.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    assert main(["evaluate", ".", "--orders", "1", "--json"]) == Exit.OK
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["images"] == len(rows) == 26
    assert 0 < report["same_scene"]["pairs"] <= 13 * 13
    assert report["same_scene"]["pairs"] == report["pairs"] - report["copies"]
    assert report["natural"]["pairs"] == 1
    assert 0 <= report["calibration_error"] < 0.5
    assert all(0 <= one["recall_at_precision_0.99"] <= 1 for one in report["families"].values())
    assert "was trained on these images" in " ".join(told.err.split())
    assert main(["evaluate", ".", "--orders", "1", "--split", "test", "--json"]) == Exit.OK
    assert "was trained on these images" not in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "there is no file or folder missing"),
        ([str(SAMPLE.parent)], "photos has no index.parquet, which holds the labels"),
        ([str(SAMPLE), "--split", "dev"], "no image of the split 'dev'; it has test, train, val"),
        ([str(SAMPLE), "--model", "who"], "there is no model version 'who'"),
    ],
)
def test_wrong_input_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["evaluate", *arguments]) == Exit.USAGE
    assert message in capsys.readouterr().err.replace("\n", " ")
