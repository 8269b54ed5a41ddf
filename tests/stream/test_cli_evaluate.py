"""`neardup evaluate` on the sample: its JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from scoring.model_folder import ModelFolder
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.settings import load_settings
from tests.stream.test_cli_train import SETTINGS
from tests.support.known_network import KnownFits
from tests.support.labelled import made_up_table
from training import train as training

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
    """Trains on a folder (with a network that is known) and evaluates on it: the figures flatter, and that is said."""
    monkeypatch.setattr(training, "fit_network", KnownFits())
    monkeypatch.setattr(training, "draw_all", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    Path("neardup.toml").write_text(SETTINGS.replace(', projection = "own.npz"', ""), encoding="utf-8")
    Path("photos").mkdir()
    table = made_up_table()
    pq.write_table(table.drop_columns(["search", "score"]), "photos/index.parquet")
    for name in ("search", "score"):
        np.save(f"photos/{name}_f16.npy", np.stack(table[name].to_numpy(zero_copy_only=False)))
    Path("photos/same_scene_pairs.csv").write_text("a,b\ng-test-0-0,g-test-1-0\n", encoding="utf-8")
    Path("photos/natural_pairs.csv").write_text("a,b\ng-test-0-0,g-test-0-1\n", encoding="utf-8")
    assert main(["train", "photos", "--quick"]) == Exit.OK
    capsys.readouterr()
    assert main(["evaluate", "photos", "--orders", "1", "--json"]) == Exit.OK
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["images"] == report["images_counted"] == len(table)
    assert 0 < report["same_scene"]["pairs"] <= 25
    assert report["natural"]["pairs"] == 1
    served = ModelFolder(tmp_path / "model")
    assert report["gate"] == served.card(served.served()).gate
    assert 0 <= report["pairs_beyond_gate"] < report["pairs"]
    assert report["ranking"] == load_settings(Path("neardup.toml")).signals["tiny"].terms.ranking.describe()
    assert report["found_at_precision_0.99"] <= report["found_by_search"]
    assert 0 < report["calibration_error"] < 0.5
    assert set(report["families"]) == {"push0", "push1", "push2", "push3"}
    assert all(0 < one["recall_at_precision_0.99"] <= 1 for one in report["families"].values())
    assert "was trained on these images" in " ".join(told.err.split())
    assert main(["evaluate", "photos", "--orders", "1", "--split", "test"]) == Exit.OK
    told = capsys.readouterr()
    assert "was trained on these images" not in " ".join(told.err.split())
    assert "recall at precision 0.99" in told.out
    assert f"beyond the gate {report['gate']}\n" in told.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "there is no file or folder missing"),
        ([str(SAMPLE.parent)], "photos has no index.parquet with the labels"),
        ([str(SAMPLE), "--split", "dev"], "no image of the split 'dev'; it has test, train, val"),
        ([str(SAMPLE), "--model", "who"], "there is no model version 'who'"),
    ],
)
def test_wrong_input_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["evaluate", *arguments]) == Exit.USAGE
    assert message in capsys.readouterr().err.replace("\n", " ")
