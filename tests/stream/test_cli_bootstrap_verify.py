"""`neardup bootstrap verify` on the real servers: what is shown, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.overrides import OverrideKind
from core.types import ImageId
from storage import codec
from storage.testing.decisions import founds
from storage.testing.overrides import say
from stream import index_comparison
from stream.cli.exits import Exit
from stream.cli.main import main
from tests.support.loaded_service import LoadedService, ServedLoad, ServiceRow, loaded_service, write_service_rows

ROWS = [ServiceRow(f"i{number}", f"i{number - number % 2}") for number in range(30)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedService]:
    with loaded_service(tmp_path_factory.mktemp("service"), ROWS) as found:
        yield found


@pytest.fixture
def world(service: LoadedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedLoad]:
    monkeypatch.chdir(service.folder)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    monkeypatch.setattr(index_comparison, "WAIT_S", 0.0)
    with service.served(tmp_path / "store") as found:
        yield found


COMMAND = ["bootstrap", "verify", "old", "first"]


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.usefixtures("world")
def test_what_was_loaded_is_sound(service: LoadedService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COMMAND) == Exit.OK
    out = capsys.readouterr().out
    assert f"old/manifests/first.json: snapshot {service.manifest.id}\n" in out
    assert "sound: 30 images of the manifest, and 30 embeddings\n" in out
    assert main(["bootstrap", "verify", "old", "first.json", "--all", "--json"]) == Exit.OK
    found = told(capsys)
    assert (found["sound"], found["compared"], found["embeddings_compared"]) == (True, 30, 30)
    assert found["totals"]["storage"] == {"rows": 30, "images": 30, "clusters": 15}
    assert found["index_compared"] == {
        "images of storage": 30,
        "deletes of storage": 0,
        "images and deletes of the index": 30,
    }
    assert main([*COMMAND, "--sample", "3", "--json"]) == Exit.OK
    assert told(capsys)["compared"] == 30
    assert main([*COMMAND, "--sample", "3", "--all"]) == Exit.USAGE


def test_a_fault_and_what_is_none(world: ServedLoad, capsys: pytest.CaptureFixture[str]) -> None:
    world.apply(lambda at: founds(at, ImageId("new")))
    say(world.store, OverrideKind.SPLIT, ImageId("i3"), target=ImageId("i2"))
    world.damage("images", codec.image_key(ImageId("i9")), None)
    assert main(COMMAND) == Exit.NOT_SOUND
    found = capsys.readouterr()
    assert "1 image: an override gave it another head\n" in found.out
    assert "    'i3': it names the head 'i2', and storage has 'i3'\n" in found.out
    assert "data/first-000000.parquet: row 9: image 'i9': storage does not have it\n" in found.out
    assert "image 'i9': the index has version 1 at place 9, storage does not know it\n" in found.out
    assert "\nto do: " in found.out
    assert "3 problems with what was loaded from the manifest first" in found.err
    assert main([*COMMAND, "--json"]) == Exit.NOT_SOUND
    said = told(capsys)
    assert (said["sound"], said["fault_count"]) == (False, 1)
    assert said["faults"] == [
        {"file": "data/first-000000.parquet", "row": 9, "problem": "image 'i9': storage does not have it"}
    ]
    assert said["explained"]["override"]["count"] == 1
    assert said["explained"]["override"]["examples"][0]["image_id"] == "i3"
    assert set(said["index_problems"]) == {"i9", "new"}


@pytest.mark.usefixtures("world")
def test_what_was_not_loaded(service: LoadedService, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bootstrap", "verify", "old", "nothing"]) == Exit.USAGE
    write_service_rows(service.settings, service.folder / "other", "first", ROWS[:4])
    capsys.readouterr()
    assert main(["bootstrap", "verify", "other", "first"]) == Exit.MISMATCH
    assert f"storage began with manifest {service.manifest.id}" in capsys.readouterr().err


def test_servers_that_do_not_run(service: LoadedService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(service.folder)
    monkeypatch.delenv("NEARDUP_SETTINGS", raising=False)
    assert main(COMMAND) == Exit.UNAVAILABLE
