"""Files are replaced whole, and durably: what is synced, and in which order, is watched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.files import replacing, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_content_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "größe")
    write_bytes(file, b"new")
    assert file.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_an_error_leaves_the_old_content_and_no_draft(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "old")
    with pytest.raises(OSError, match="folder"), replacing(file) as draft:
        draft.joinpath("no folder").write_text("new")
    assert file.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_nobody_sees_a_part(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_text(file, "old")
    with replacing(file) as draft:
        draft.write_text("half of the n")
        assert file.read_text() == "old"


def test_a_secret_is_private_before_and_after_it_has_its_name(tmp_path: Path) -> None:
    with replacing(tmp_path / "secret", mode=0o600) as draft:
        draft.write_text("x")
        assert draft.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_many_may_replace_one_file_at_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    contents = [f"{number}" * 1_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_text(file, content, sync=False), contents * 25))
    assert file.read_text() in contents
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("sync", [True, False])
def test_the_file_is_synced_before_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    file = tmp_path / "file"
    seen: list[tuple[bool, bool]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        seen.append((Path(f"/proc/self/fd/{handle}").readlink() == tmp_path, file.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(file, b"x", sync=sync)
    assert seen == ([(False, False), (True, True)] if sync else [])
