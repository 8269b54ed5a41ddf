"""A store is opened by name: the two of ours by their entry points, any other by its dotted name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from core.errors import SettingsError
from storage.errors import IncompatibleError
from storage.memory import MemoryStore
from storage.opening import _OURS, GROUP, open_store
from storage.rocks.store import RocksStore


def test_the_names_of_our_stores(tmp_path: Path) -> None:
    for name, kind in {"memory": MemoryStore, "rocksdb": RocksStore}.items():
        store = open_store(name, tmp_path / name, "photos")
        assert type(store) is kind
        store.close()


def test_our_names_are_declared_as_entry_points() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"][GROUP] == _OURS


def test_folder_and_identity_are_passed_on(tmp_path: Path) -> None:
    open_store("rocksdb", tmp_path, "photos").close()
    with pytest.raises(IncompatibleError, match="'texts'"):
        open_store("storage.rocks.store:RocksStore", tmp_path, "texts")


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'pathlib:PurePath' is a PurePosixPath"):
        open_store("pathlib:PurePath", tmp_path, "")
    with pytest.raises(SettingsError, match=r"'cassandra' in the group neardup\.stores"):
        open_store("cassandra", tmp_path, "photos")
