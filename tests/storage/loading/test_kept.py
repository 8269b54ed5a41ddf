"""What is kept of a load beside the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.checked_json import read_checked, write_checked
from core.first_loads import LoadRequest, LoadState
from storage.errors import CorruptedError, IncompatibleError
from storage.loading.kept import KeptLoad, read_kept, remove_all_but_kept, write_kept

KEPT = KeptLoad(LoadRequest("s3://old", "a.json", "4f", "log"), 7, LoadState.FAILED, "row 3", 10, 9, 4, 8)


def test_it_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "load"
    assert read_kept(folder) is None
    write_kept(folder, KEPT)
    assert read_kept(folder) == KEPT


def test_only_what_is_kept_stays(tmp_path: Path) -> None:
    remove_all_but_kept(tmp_path / "load")
    write_kept(tmp_path / "load", KEPT)
    (tmp_path / "load" / "spool" / "deep").mkdir(parents=True)
    (tmp_path / "load" / "superseded").touch()
    remove_all_but_kept(tmp_path / "load")
    assert [path.name for path in (tmp_path / "load").iterdir()] == ["load.json"]


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": 1, "crc32c": 1, "body": {}}'])
def test_damage_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "load.json").write_bytes(content)
    with pytest.raises(CorruptedError, match=r"load\.json is damaged"):
        read_kept(tmp_path)


def test_another_format_is_said(tmp_path: Path) -> None:
    write_kept(tmp_path, KEPT)
    body = read_checked(tmp_path / "load.json").body
    write_checked(tmp_path / "load.json", 2, body)
    with pytest.raises(IncompatibleError, match=r"load\.json has format 2, this server reads 1"):
        read_kept(tmp_path)
