"""The folder of models: which is served, which are kept, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import BadInputError
from scoring import model_folder
from scoring.card import read_card, write_card
from scoring.model_folder import ModelFolder, checksums, version_name
from tests.support.fake_model import FakeModel, write_version


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    for version in ("v1", "v2", "v3"):
        write_version(tmp_path, version)
    return ModelFolder(tmp_path)


def test_the_served_version_can_be_changed(folder: ModelFolder) -> None:
    for version in ("v2", "v1"):
        folder.use(version)
        assert folder.served() == version
    assert folder.versions() == ["v1", "v2", "v3"]
    assert {path.name for path in folder.folder.iterdir()} == {"v1", "v2", "v3", "served"}


def test_changes_of_the_served_version_can_be_taken_back_one_by_one(folder: ModelFolder) -> None:
    for version in ("v1", "v2", "v2", "v3"):
        folder.use(version)
    assert folder.served_since() == ["v3", "v2", "v1"]
    assert folder.roll_back() == ("v3", "v2")
    assert folder.roll_back() == ("v2", "v1")
    with pytest.raises(BadInputError, match="no version was in use before v1"):
        folder.roll_back()
    assert folder.served() == "v1"


def test_a_rollback_to_a_version_that_is_gone_changes_nothing(folder: ModelFolder) -> None:
    folder.use("v1")
    folder.use("v2")
    shutil.rmtree(folder.path("v1"))
    with pytest.raises(BadInputError, match="no model version 'v1'"):
        folder.roll_back()
    assert folder.served_since() == ["v2", "v1"]


def test_the_pointer_remembers_a_bounded_number_of_changes(folder: ModelFolder) -> None:
    for _ in range(30):
        folder.use("v1")
        folder.use("v2")
    assert len(folder.served_since()) == 32


def test_the_stamp_changes_with_every_write_of_the_pointer(folder: ModelFolder) -> None:
    assert folder.pointer_stamp() is None
    folder.use("v1")
    before = folder.pointer_stamp()
    assert folder.pointer_stamp() == before
    folder.use("v1")
    assert folder.pointer_stamp() != before


def test_without_a_pointer_it_says_what_to_do(folder: ModelFolder) -> None:
    with pytest.raises(BadInputError, match=r"served is missing.*train a model first"):
        folder.served()


@pytest.mark.parametrize("content", [b"", b"../v1\n", b"v1 v2", b"\xff\xfe"])
def test_a_damaged_pointer_is_refused(folder: ModelFolder, content: bytes) -> None:
    (folder.folder / "served").write_bytes(content)
    with pytest.raises(BadInputError, match=r"cannot"):
        folder.served()


def test_a_version_that_is_not_there_is_neither_loaded_nor_served(folder: ModelFolder) -> None:
    folder.use("v1")
    for call in (folder.card, folder.use, lambda version: folder.load(version, FakeModel)):
        with pytest.raises(BadInputError, match=r"no model version 'v9' in .*; the versions are: v1, v2, v3"):
            call("v9")
    assert folder.served() == "v1"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", ".hidden", "a\n", "x" * 65, "served", "ä"])
def test_names_that_could_lead_elsewhere_are_refused(folder: ModelFolder, name: str) -> None:
    with pytest.raises(BadInputError, match="cannot name a model version"):
        version_name(name)
    with pytest.raises(BadInputError, match="cannot name a model version"):
        folder.path(name)


def test_changed_and_missing_files_are_found(folder: ModelFolder) -> None:
    path = folder.path("v1")
    (path / "sub").mkdir()
    (path / "sub" / "weights").write_bytes(b"right")
    write_card(replace(read_card(path), files_sha256=checksums(path)), path)
    assert isinstance(folder.load("v1", FakeModel), FakeModel)
    (path / "sub" / "weights").write_bytes(b"wrong")
    with pytest.raises(BadInputError, match="weights of the model v1 is damaged: SHA-256"):
        folder.load("v1", FakeModel)
    (path / "sub" / "weights").unlink()
    with pytest.raises(BadInputError, match="v1 lacks its file"):
        folder.load("v1", FakeModel)


def test_folders_without_a_card_are_no_versions_but_are_seen(folder: ModelFolder) -> None:
    (folder.folder / "v0").mkdir()
    (folder.folder / ".v4.partial").mkdir()
    assert folder.versions() == ["v1", "v2", "v3"]
    assert folder.folders() == ["v0", "v1", "v2", "v3"]


def test_a_file_that_the_card_does_not_list_is_refused(folder: ModelFolder) -> None:
    path = folder.path("v1")
    for name in ("card.md", "scores.png"):
        (path / name).write_bytes(b"a page about the model")
    assert isinstance(folder.load("v1", FakeModel), FakeModel)
    (path / "saved_model.pbtxt").write_text("meta_graphs {}")
    with pytest.raises(BadInputError, match=r"saved_model\.pbtxt is not listed in the card of the model v1: remove it"):
        folder.load("v1", FakeModel)


def test_links_are_refused(folder: ModelFolder, tmp_path: Path) -> None:
    (folder.path("v1") / "variables").symlink_to(tmp_path)
    (folder.path("v2") / "scores.png").symlink_to("/etc/hostname")
    (folder.folder / "v4").symlink_to(folder.path("v3"))
    write_card(replace(read_card(folder.path("v3")), version="v4"), folder.path("v3"))
    for version in ("v1", "v2", "v4"):
        with pytest.raises(BadInputError, match="is a link"):
            folder.load(version, FakeModel)


def test_too_large_and_too_many_files_are_refused(folder: ModelFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (folder.path("v1") / f"part-{number}").write_bytes(bytes(100))
    monkeypatch.setattr(model_folder, "MAX_MODEL_FILES", 2)
    with pytest.raises(BadInputError, match="over 2 files"):
        checksums(folder.path("v1"))
    monkeypatch.setattr(model_folder, "MAX_MODEL_FILES", 1000)
    monkeypatch.setattr(model_folder, "MAX_MODEL_BYTES", 299)
    with pytest.raises(BadInputError, match="over 299 bytes"):
        checksums(folder.path("v1"))
