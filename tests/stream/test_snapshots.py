"""The newest complete snapshot is found, half-written ones are not; old ones go once they are not needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stream.snapshots import SnapshotFolders


@pytest.fixture
def folders(tmp_path: Path) -> SnapshotFolders:
    return SnapshotFolders(tmp_path)


def make(folder: Path, age_s: int, *, complete: bool = True) -> Path:
    folder.mkdir(parents=True)
    if complete:
        (folder / "_metadata").write_bytes(b"m")
        stamp = 1_700_000_000 - age_s
        os.utime(folder / "_metadata", (stamp, stamp))
        os.utime(folder, (stamp, stamp))
    return folder


def test_none_at_first(folders: SnapshotFolders) -> None:
    assert folders.newest() is None


def test_the_newest_complete_one_of_either_kind(folders: SnapshotFolders) -> None:
    make(folders.checkpoints / "a" / "chk-7", age_s=30)
    second = make(folders.checkpoints / "b" / "chk-2", age_s=20)
    make(folders.checkpoints / "b" / "chk-3", age_s=0, complete=False)
    assert folders.newest() == second
    savepoint = make(folders.savepoints / "savepoint-1", age_s=10)
    assert folders.newest() == savepoint


def test_prune_waits_for_a_checkpoint_of_the_new_job(folders: SnapshotFolders) -> None:
    old = make(folders.checkpoints / "a" / "chk-7", age_s=30)
    savepoint = make(folders.savepoints / "savepoint-1", age_s=10)
    make(folders.checkpoints / "b" / "chk-1", age_s=0, complete=False)
    assert folders.prune("b") == []
    new = make(folders.checkpoints / "b" / "chk-2", age_s=0)
    assert {each.name for each in folders.prune("b")} == {"a", "savepoint-1"}
    assert new.exists()
    assert not old.exists()
    assert not savepoint.exists()
    assert folders.newest() == new
