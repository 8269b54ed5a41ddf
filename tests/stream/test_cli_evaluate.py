"""`neardup evaluate` on the sample: its JSON, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "there is no folder or file missing"),
        ([str(SAMPLE), "--split", "dev"], "no image of the split 'dev'; it has test, train, val"),
        ([str(SAMPLE), "--model", "who"], "there is no model version 'who'"),
    ],
)
def test_wrong_input_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert main(["evaluate", *arguments]) == Exit.USAGE
    assert message in capsys.readouterr().err.replace("\n", " ")
