"""`neardup bootstrap`: what is made, what is found, and how it ends."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.types import Cause
from manifests.folder import LocalFolder, read_manifest
from manifests.rows import read_rows
from stream.bootstrap.signal import hashing, load_signal
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.settings import load_settings
from tests.support.moto_s3 import AWS

SEARCH, SCORE = 16, 12

SETTINGS = f"""
default_signal = "tiny"
[signals.tiny]
search_embedding = {{ name = "s", model_version = "1", dimension = {SEARCH} }}
score_embedding = {{ name = "c", model_version = "2", dimension = {SCORE} }}
model = "model"
terms = {{ bits = 64, groups = 24, bits_per_group = 4, candidates = 100 }}
code = {{ bits = 64 }}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "neardup.toml").write_text(SETTINGS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    return tmp_path


def export(name: str, rows: int = 30, first: int = 0, **columns: Any) -> str:
    """A file of another system: clusters of three, in no order."""
    numbers = list(range(first, first + rows))
    random.Random(first).shuffle(numbers)
    drawn = np.random.default_rng(first)
    content = {
        "photo": pa.array([f"photo-{number}" for number in numbers]),
        "group": pa.array([f"photo-{number - number % 3}" for number in numbers]),
        "search": pa.array(list(drawn.standard_normal((rows, SEARCH)).astype(np.float32))),
        "score": pa.array(list(drawn.standard_normal((rows, SCORE)).astype(np.float32))),
    }
    pq.write_table(pa.table({**content, **columns}), name)
    return name


NAMES = ("--image-id", "photo", "--head", "group")


def test_what_is_made_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    export("old.parquet")
    assert main(["bootstrap", "convert", "old.parquet", "--to", "old", "--name", "one", *NAMES, "--hash"]) == Exit.OK
    assert capsys.readouterr().out.startswith("old/manifests/one.json: snapshot ")
    assert main(["bootstrap", "check", "old", "one"]) == Exit.OK
    out = capsys.readouterr().out
    assert "30 rows in 1 file" in out
    assert "30 images in 10 clusters\n0 rows superseded, 30 rows with terms and codes\n" in out
    settings = load_settings()
    (rows,) = read_rows(
        LocalFolder(Path("old")),
        read_manifest(LocalFolder(Path("old")), "one.json"),
        load_signal(settings),
        Path(),
        100,
    )
    terms, codes = hashing(settings)(rows.batch.images.search, rows.batch.images.score)
    assert rows.batch.terms is not None
    assert rows.batch.codes is not None
    assert (rows.batch.terms == terms).all()
    assert (rows.batch.codes == codes).all()
    assert set(rows.batch.causes) == {Cause.BOOTSTRAPPED}


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_delta_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    export("old.parquet")
    export("new.parquet", first=30)
    base = ["--to", "old", *NAMES, "--json"]
    assert main(["bootstrap", "convert", "old.parquet", "--name", "one.json", *base]) == Exit.OK
    first = told(capsys)
    assert (first["name"], first["kind"], first["rows"], first["readings"]) == ("one", "snapshot", 30, 2)
    delta = ["--name", "two", "--delta", "--previous", "one"]
    assert main(["bootstrap", "convert", "new.parquet", *delta, *base]) == Exit.OK
    second = told(capsys)
    assert (second["kind"], second["previous"]) == ("delta", first["id"])
    assert main(["bootstrap", "check", "old", "two.json", "--json"]) == Exit.OK
    found = told(capsys)
    assert (found["id"], found["images"], found["clusters"], found["faults"]) == (second["id"], 30, 10, [])


def test_clusters_of_any_name(capsys: pytest.CaptureFixture[str]) -> None:
    export("old.parquet", group=pa.array([number % 7 for number in range(30)]))
    command = ["bootstrap", "convert", "old.parquet", "--to", "old", "--name", "one", "--image-id", "photo"]
    assert main([*command, "--cluster", "group"]) == Exit.OK
    assert main(["bootstrap", "check", "old", "one", "--json"]) == Exit.OK
    assert '"clusters": 7' in capsys.readouterr().out


def test_faults_are_listed_and_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    export("old.parquet", score=pa.array([[0.0] * SCORE] * 30, pa.list_(pa.float32())))
    command = ["bootstrap", "convert", "old.parquet", "--to", "old", "--name", "one", *NAMES]
    assert main(command) == Exit.USAGE
    found = capsys.readouterr()
    assert found.out.count("column score is refused: all 12 numbers of score are zero") == 30
    assert "30 faults in the files: nothing was written" in found.err
    assert main([*command, "--json"]) == Exit.USAGE
    faults = told(capsys)
    assert (faults["fault_count"], len(faults["faults"])) == (30, 30)
    assert set(faults["faults"][0]) == {"file", "row", "problem"}
    assert not any(path.is_file() for path in Path("old").rglob("*"))


def test_faults_of_a_manifest_have_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    export("old.parquet")
    assert main(["bootstrap", "convert", "old.parquet", "--to", "old", "--name", "one", *NAMES]) == Exit.OK
    Path("old/data/one-000000.parquet").unlink()
    capsys.readouterr()
    assert main(["bootstrap", "check", "old", "one"]) == Exit.NOT_SOUND
    found = capsys.readouterr()
    assert "data/one-000000.parquet: cannot read" in found.out
    assert "not all rows could be read" in found.out
    assert "1 fault in the manifest one" in found.err
    assert main(["bootstrap", "check", "old", "one", "--json"]) == Exit.NOT_SOUND
    assert told(capsys)["images"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--head", "a", "--cluster", "b"], "give --head or --cluster, not both"),
        (["--delta"], "give --delta and --previous NAME together"),
        (["--previous", "one"], "give --delta and --previous NAME together"),
        (["--delta", "--previous", "one", "--cluster", "b"], "a delta names heads"),
        (["--delta", "--previous", "none"], "none.json"),
        (["--image-id", "id"], "has no column id; its columns are photo"),
        (["--head", "group", "--search", "pictures"], "has no column pictures: images are taken with their embeddings"),
        (["--signal", "faces"], "there is no signal 'faces'"),
    ],
)
def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    export("old.parquet")
    Path("old/manifests").mkdir(parents=True)
    names = [] if "--image-id" in words else ["--image-id", "photo"]
    command = ["bootstrap", "convert", "old.parquet", "--to", "old", "--name", "one", *names]
    assert main([*command, *words]) == Exit.USAGE
    assert message in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bootstrap", "check", "old", "one"]) == Exit.UNAVAILABLE
    assert "cannot read old/manifests/one.json" in (said := capsys.readouterr().err)
    assert "There is no folder old/manifests: is it mounted?" in said


def test_a_manifest_in_s3(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, moto_url: str) -> None:
    for name, value in {**AWS, "AWS_ENDPOINT_URL": moto_url}.items():
        monkeypatch.setenv(name, value)
    assert httpx.put(f"{moto_url}/commands").status_code == 200
    export("old.parquet")
    command = ["bootstrap", "convert", "old.parquet", "--to", "s3://commands/old", "--name", "one", *NAMES]
    assert main(command) == Exit.OK
    assert capsys.readouterr().out.startswith("s3://commands/old/manifests/one.json: snapshot ")
    assert main(["bootstrap", "check", "s3://commands/old", "one"]) == Exit.OK
    assert "30 images in 10 clusters" in capsys.readouterr().out
    assert main(command) == Exit.USAGE
    assert "has a manifest one already" in capsys.readouterr().err


def test_an_unreachable_store_is_unavailable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert main(["bootstrap", "check", "s3://bucket/old", "one"]) == Exit.UNAVAILABLE
    assert "cannot be reached" in capsys.readouterr().err
