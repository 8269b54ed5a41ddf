"""The newest usable snapshot goes by id and content; failed ones are passed; old ones go once nobody needs them."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from stream.snapshots import SnapshotFolders, checkpoint_id


@pytest.fixture
def folders(tmp_path: Path) -> SnapshotFolders:
    return SnapshotFolders(tmp_path)


def make(folder: Path, number: int, *, age_s: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "_metadata").write_bytes(struct.pack(">iiq", 0x4960672D, 6, number) + b"state")
    stamp = 1_700_000_000 - age_s
    os.utime(folder / "_metadata", (stamp, stamp))
    return folder


def chk(folders: SnapshotFolders, job: str, number: int, *, age_s: int = 0) -> Path:
    return make(folders.checkpoints / job / f"chk-{number}", number, age_s=age_s)


def test_none_at_first(folders: SnapshotFolders) -> None:
    assert folders.newest() is None


def test_the_highest_id_of_either_kind_whatever_the_times_say(folders: SnapshotFolders) -> None:
    chk(folders, "a", 7, age_s=0)
    ninth = chk(folders, "b", 9, age_s=1000)
    chk(folders, "b", 8, age_s=0)
    assert folders.newest() == ninth
    savepoint = make(folders.savepoints / "savepoint-1", 10, age_s=9000)
    assert folders.newest() == savepoint
    tenth = chk(folders, "b", 11, age_s=10_000)
    assert folders.newest() == tenth


@pytest.mark.parametrize(
    "content",
    [b"", b"I`g", struct.pack(">ii", 0x4960672D, 6), struct.pack(">iiq", 0x4960672D, 6, 9), b"x" * 400],
    ids=["empty", "cut", "no id", "nothing behind the id", "something else"],
)
def test_damaged_metadata_is_passed(folders: SnapshotFolders, content: bytes) -> None:
    eighth = chk(folders, "a", 8, age_s=50)
    (chk(folders, "a", 9) / "_metadata").write_bytes(content)
    (folders.checkpoints / "a" / "chk-10").mkdir()
    assert folders.newest() == eighth


def test_a_snapshot_that_failed_twice_is_passed_for_the_next_older(folders: SnapshotFolders) -> None:
    first, second, third = (chk(folders, "a", number) for number in (1, 2, 3))
    restores = folders.restores
    assert not restores.note(third, [("job", 1000)])
    assert not restores.note(third, [("job", 1000)])  # the same failure, seen again a second later
    assert folders.newest() == third
    assert restores.note(third, [("job", 1000), ("job", 2000)])
    assert SnapshotFolders(folders.root).newest() == second
    restores.note(second, [("job2", 1), ("job2", 2)])
    assert folders.newest() == first
    restores.note(first, [("submission", 1)])
    restores.note(first, [("submission", 2)])
    assert folders.newest() is None


def test_a_job_that_starts_without_a_snapshot_outlives_the_older_ids(folders: SnapshotFolders) -> None:
    chk(folders, "a", 900)
    folders.reject_all()
    assert folders.newest() is None
    fresh = chk(folders, "b", 1)
    assert folders.newest() == fresh


def test_a_damaged_list_of_failures_stops_nothing(folders: SnapshotFolders) -> None:
    first = chk(folders, "a", 1)
    folders.restores.file.write_bytes(b"{ not json")
    assert folders.newest() == first
    folders.restores.note(first, [("job", 1), ("job", 2)])
    assert folders.newest() is None


def test_older_jobs_go_once_the_new_one_has_three_checkpoints(folders: SnapshotFolders) -> None:
    old = chk(folders, "a", 7)
    for number in (8, 9):
        chk(folders, "b", number)
        assert folders.prune("b") == []
    (chk(folders, "b", 10) / "_metadata").write_bytes(b"")
    assert folders.prune("b") == []
    chk(folders, "b", 11)
    folders.restores.note(old, [("job", 1), ("job", 2)])
    assert folders.prune("b") == [folders.checkpoints / "a"]
    assert not old.exists()
    assert folders.restores.rejected() == set()


def test_a_savepoint_stays_until_three_newer_ones_exist(folders: SnapshotFolders) -> None:
    savepoints = [make(folders.savepoints / f"savepoint-{number}", number) for number in (5, 10, 15)]
    for number in range(16, 20):
        chk(folders, "b", number)
    assert folders.prune("b") == []
    make(folders.savepoints / "savepoint-20", 20)
    assert folders.prune("b") == [savepoints[0]]


def test_the_id_is_read_from_the_metadata(folders: SnapshotFolders) -> None:
    assert checkpoint_id(chk(folders, "a", 2**40)) == 2**40
    assert checkpoint_id(folders.root / "nowhere") is None
