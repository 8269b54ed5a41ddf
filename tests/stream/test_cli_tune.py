"""`neardup tune` on the sample, with a small grid."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from search.tuning.choose import Grid
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    grid = Grid(groups=(64, 128), bits_per_group=(12, 16), min_overlaps=(1,), depths=(50, 400), candidates=(20, 50))
    monkeypatch.setattr("search.tuning.choose.Grid", lambda: grid)
    file = tmp_path / "neardup.toml"
    text = (ROOT / "neardup.toml").read_text(encoding="utf-8")
    file.write_text(text.replace('"examples/photos/', f'"{ROOT}/examples/photos/'), encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return file


@pytest.fixture(params=["distance", "overlap"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__TERMS__ORDER", request.param)
    return str(request.param)


def test_it_measures_chooses_draws_and_writes(
    settings_file: Path, order: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load_settings(settings_file).signals["photos"].terms.ranking
    command = ["--settings", str(settings_file), "tune", "--recall", "0.3", "--images", "20000", "--write", "--json"]
    assert main([*command, "--plots", str(tmp_path / "plots")]) == Exit.OK
    result = json.loads(capsys.readouterr().out)
    assert result["reached"]
    chosen = result["chosen"]["prediction"]
    assert chosen["recall"] >= 0.3
    assert abs(result["recall_on_sample"]["predicted"] - result["recall_on_sample"]["counted"]) < 0.05
    for picture in result["pictures"]:
        assert Path(picture).read_bytes().startswith(b"\x89PNG")
    signal = load_settings(settings_file).signals["photos"]
    choice, ranking = chosen["choice"], signal.terms.ranking
    assert (signal.terms.groups, signal.terms.bits_per_group) == (choice["groups"], choice["bits_per_group"])
    assert ranking.describe() == choice["ranking"]
    assert ranking.candidates in (20, 50)
    assert ranking.depth in ((50, 400) if order == "distance" else (before.depth,))
    assert signal.density.images == 20_000
    assert signal.density.copy_postings == pytest.approx(chosen["copy_postings"], rel=1e-5)


def test_terms_are_kept_if_wanted(
    settings_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__TERMS__ORDER", "distance")
    monkeypatch.setenv("COLUMNS", "200")
    before = load_settings(settings_file).signals["photos"].terms
    assert main(["--settings", str(settings_file), "tune", "--recall", "0.9", "--keep-terms", "--write"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "the index serves on" in shown
    after = load_settings(settings_file).signals["photos"].terms
    assert (after.groups, after.bits_per_group) == (before.groups, before.bits_per_group)
    assert (after.depth, after.candidates) == (400, 50)  # 0.9 is out of reach, so the best of the grid


def test_it_says_when_nothing_is_enough(settings_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(settings_file, settings_file.with_suffix(".before"))
    assert main(["--settings", str(settings_file), "tune", "--recall", "0.99"]) == Exit.OK
    shown = capsys.readouterr().out
    assert "no affordable choice finds 99%" in shown
    assert "counted" in shown
    assert settings_file.read_text() == settings_file.with_suffix(".before").read_text()


def test_wrong_input_is_refused(settings_file: Path) -> None:
    assert main(["--settings", str(settings_file), "tune", "--recall", "2"]) == Exit.USAGE
    assert main(["--settings", str(settings_file), "tune", "--embeddings", "nowhere.parquet"]) == Exit.USAGE
