"""`neardup label` and `neardup label-tree`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stream.cli.exits import Exit
from stream.cli.main import main

DEMO = Path(__file__).parents[2] / "examples" / "photos" / "demo"
ONE, CROP, OTHER = (
    DEMO / f"{name}.jpg" for name in ("clothing-0152ec2ee8", "clothing-0152ec2ee8-1-crop", "clothing-18e573be5a")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pictures"
    made.mkdir()
    for path in (ONE, CROP, OTHER):
        shutil.copy(path, made)
    return made


def test_two_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", str(ONE), str(CROP)]) == Exit.OK
    assert capsys.readouterr().out.startswith("near-duplicates (probability ")
    assert main(["label", str(ONE), str(OTHER), "--json"]) == Exit.OK
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["duplicate"] is False
    assert verdict["features"]["inliers"] < 20


def test_a_folder_and_a_list_of_its_pairs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels.parquet"
    (folder / "torn.jpg").write_bytes(b"torn")
    assert main(["label", str(folder), "--out", str(out), "--json"]) == Exit.OK
    said = json.loads(capsys.readouterr().out)
    assert said == {"labels": str(out), "pairs": 6, "duplicates": 1, "different": 2, "unreadable": 3}
    listed = tmp_path / "pairs.csv"
    listed.write_text(f"image_a,image_b\n{OTHER.stem},{ONE.stem}\n")
    assert main(["label", str(folder), "--pairs", str(listed), "--out", str(out)]) == Exit.OK
    rows = pq.read_table(out, columns=["image_a", "image_b", "label"]).to_pylist()
    assert rows == [{"image_a": OTHER.stem, "image_b": ONE.stem, "label": 0}]


def test_a_list_of_paths_needs_no_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, listed = tmp_path / "labels.parquet", tmp_path / "pairs.csv"
    listed.write_text(f"image_a,image_b\n{folder.name}/{ONE.name},{CROP}\n{OTHER},{folder.name}/{ONE.name}\n")
    assert main(["label", "--pairs", str(listed), "--out", str(out)]) == Exit.OK
    rows = pq.read_table(out, columns=["image_a", "image_b", "label"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [(ONE.stem, CROP.stem, 1), (OTHER.stem, ONE.stem, 0)]
    listed.write_text(f"image_a,image_b\n{ONE.stem},{CROP}\n")
    capsys.readouterr()
    assert main(["label", "--pairs", str(listed), "--out", str(out)]) == Exit.USAGE
    assert f"names '{ONE.stem}', which is neither" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.jpg", "b.jpg"], "the picture a.jpg cannot be read"),
        (["a.jpg", "b.jpg", "--out", "x.parquet"], "are for many pairs"),
        (["a.jpg", "b.jpg", "c.jpg"], "not 3 paths"),
        ([], "not 0 paths"),
        (["--embeddings", "b.parquet", "--out", "x.parquet"], "not 0 paths"),
        (["."], "need a file: --out"),
        (["gone", "--out", "x.parquet"], "there is no folder gone"),
        ([".", "--pairs", "a.csv", "--embeddings", "b.parquet", "--out", "x"], "give one of them"),
        (["a.jpg", "b.jpg", "--tree", "gone.json"], "gone.json cannot be read"),
    ],
)
def test_wrong_arguments_are_explained(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["label", *words]) == Exit.USAGE
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_tree_needs_some_photographs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(DEMO / "clothing-18e573be5a-1-crop.jpg", folder)
    labels = folder / "labels.csv"
    names = [ONE.name, CROP.name, OTHER.name, "clothing-18e573be5a-1-crop.jpg"]
    rows = [f"{name},{'-'.join(Path(name).stem.split('-')[:2])},{'crop' if 'crop' in name else ''}" for name in names]
    labels.write_text("\n".join(["file,source_id,family", *rows]) + "\n")
    tree = tmp_path / "tree.json"
    assert main(["label-tree", str(labels), "--out", str(tree), "--json"]) == Exit.USAGE
    assert "has 2 photographs, at least 3 are needed" in capsys.readouterr().err
