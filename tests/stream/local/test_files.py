"""Files that other processes read are whole, and untouched when nothing is new."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream.local.files import link_tree, tail, write_if_new


def test_text_is_written_once(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    assert write_if_new(file, "one")
    inode = file.stat().st_ino
    assert not write_if_new(file, "one")
    assert file.stat().st_ino == inode
    assert write_if_new(file, "two")
    assert file.read_text() == "two"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_files_are_on_disk_in_the_order_in_which_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    folder = tmp_path / "conf"
    for name in ("arguments", "made-from"):
        write_if_new(folder / name, "text")
    assert [name.split(".")[1] if name.startswith(".") else name for name in synced] == [
        "arguments",
        "conf",
        "made-from",
        "conf",
    ]


def test_text_can_be_kept_from_others(tmp_path: Path) -> None:
    write_if_new(tmp_path / "secret", "x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_links_are_exactly_those_asked_for(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jar", tmp_path / "two.jar"
    one.touch()
    two.touch()
    folder = tmp_path / "lib"
    link_tree(folder, {"a.jar": one, "plugin/b.jar": one, "old/c.jar": one})
    (folder / "stray").write_text("not ours")
    kept = (folder / "a.jar").lstat().st_ino

    link_tree(folder, {"a.jar": one, "plugin/b.jar": two})

    assert (folder / "a.jar").lstat().st_ino == kept
    assert (folder / "plugin" / "b.jar").resolve() == two
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["a.jar", "plugin", "plugin/b.jar"]


def test_a_link_to_a_jar_that_is_gone_is_renewed(tmp_path: Path) -> None:
    new = tmp_path / "new.jar"
    new.touch()
    folder = tmp_path / "lib"
    link_tree(folder, {"a.jar": tmp_path / "gone.jar"})
    link_tree(folder, {"a.jar": new})
    assert (folder / "a.jar").resolve() == new


def test_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_bytes(b"\xff broken\n" + b"".join(b"line %d\n" % number for number in range(100)))
    assert tail(log, lines=2) == "line 98\nline 99"
    assert len(tail(log, lines=1000, limit=50)) <= 50
