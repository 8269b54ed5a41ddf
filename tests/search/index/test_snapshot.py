"""Snapshots and their restore: whole or not there, on the same volume or another, over newer logs, and when killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import BadInputError, MismatchError, NeardupError
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError, IndexLockedError
from search.index.generations import IndexGenerations
from search.index.interface import IndexStats
from search.index.restoring import restore_snapshot
from search.index.snapshot import check_snapshot, snapshots
from tests.search.index.index_oracle import LOG, Oracle, index_settings, insert, plain

SETTINGS = index_settings(candidates=50, seal_entries=8, merge_fan=2)
AT_SNAPSHOT, LATER = 30, 75


def records(first: int, end: int) -> list[object]:
    return [insert(place, f"i{place % 60}", place // 60, (place % 4, 1, 2, 3)) for place in range(first, end)]


def grow(folder: Path, end: int) -> SegmentedIndex:
    index = SegmentedIndex(folder, SETTINGS, background=False)
    for place in range(index.position.offset + 1, end, 5):
        index.insert_and_search(LOG, records(place, min(end, place + 5)))  # type: ignore[arg-type]
        index.tidy()
    return index


def holds(folder: Path, end: int) -> bool:
    """Whether an index answers as one into which the first `end` records were inserted."""
    index = SegmentedIndex(folder, SETTINGS, background=False)
    oracle = Oracle(SETTINGS, records(0, end))  # type: ignore[arg-type]
    try:
        return index.position.offset == end - 1 and [
            plain(one) for one in index.insert_and_search(LOG, oracle.log)
        ] == [oracle.answer(one) for one in oracle.log]
    finally:
        index.close()


@contextmanager
def no_links(errno: int = 18) -> Iterator[None]:
    """As if the snapshots lay on another volume."""

    def refused(*_: object) -> None:
        raise OSError(errno, os.strerror(errno))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.link", refused)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 75 records with two snapshots of the first 30: linked, and copied."""
    root = tmp_path_factory.mktemp("made")
    generations = IndexGenerations(root / "index")
    index = grow(generations.folder(generations.serving(SETTINGS.identity)), AT_SNAPSHOT)
    index.snapshot(root / "snapshots" / "linked")
    with no_links():
        index.snapshot(root / "snapshots" / "copied")
    index.close()
    grow(root / "index" / "gen-000001", LATER).close()
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "root"))


def restore(root: Path, name: str = "copied", check: Callable[[IndexStats], None] = lambda stats: None) -> Path:
    return restore_snapshot(IndexGenerations(root / "index"), root / "snapshots" / name, SETTINGS, check)[0]


def serving(root: Path) -> Path:
    generations = IndexGenerations(root / "index")
    return generations.folder(generations.serving(SETTINGS.identity))


def test_a_snapshot_on_another_volume_is_a_copy(made: Path) -> None:
    copied, linked = made / "snapshots" / "copied", made / "snapshots" / "linked"
    names = sorted(each.name for each in linked.iterdir())
    assert names == sorted(each.name for each in copied.iterdir())
    assert any(name.startswith("segment-") for name in names)
    assert all((copied / name).stat().st_nlink == 1 for name in names)


def test_an_error_of_the_disk_is_no_reason_to_copy(root: Path) -> None:
    index = SegmentedIndex(root / "index" / "gen-000001", SETTINGS, background=False)
    with no_links(28), pytest.raises(NeardupError, match="No space left"):
        index.snapshot(root / "snapshots" / "third")
    index.close()
    assert sorted(each.name for each in (root / "snapshots").iterdir()) == ["copied", "linked"]


def test_what_a_killed_snapshot_left_is_removed_by_the_next(root: Path) -> None:
    left = root / "snapshots" / ".third.unfinished"
    left.mkdir()
    (left / "log-00000001").write_bytes(b"half")
    assert [each.folder.name for each in snapshots(root / "snapshots")] == ["linked", "copied"]
    index = SegmentedIndex(root / "index" / "gen-000001", SETTINGS, background=False)
    index.snapshot(root / "snapshots" / "fourth")
    index.close()
    assert not left.exists()


@pytest.mark.parametrize("name", ["linked", "copied"])
def test_a_restore_over_newer_logs_goes_back_and_catches_up(root: Path, name: str) -> None:
    assert holds(serving(root), LATER)
    restored = restore(root, name)
    assert serving(root) == restored == root / "index" / "gen-000002"
    assert holds(restored, AT_SNAPSHOT)
    grow(restored, LATER).close()
    assert holds(restored, LATER)
    check_snapshot(root / "snapshots" / name)  # growing the restored index has not touched it


def test_a_restore_needs_no_readable_index(root: Path) -> None:
    (root / "index" / "current").write_text("")
    assert holds(restore(root), AT_SNAPSHOT)


def test_a_snapshot_of_an_earlier_release_is_restored(root: Path) -> None:
    (root / "snapshots" / "copied" / "snapshot.json").unlink()
    assert holds(restore(root), AT_SNAPSHOT)


def test_nothing_is_restored_while_a_server_has_the_index_open(root: Path) -> None:
    index = SegmentedIndex(serving(root), SETTINGS, background=False)
    with pytest.raises(IndexLockedError, match="stop it first"):
        restore(root)
    index.close()
    assert serving(root).name == "gen-000001"


def test_a_snapshot_that_does_not_fit_changes_nothing(root: Path) -> None:
    def refuse(stats: IndexStats) -> None:
        raise MismatchError(f"storage is behind {stats.released}")

    with pytest.raises(MismatchError, match="storage is behind"):
        restore(root, check=refuse)
    with pytest.raises(BadInputError, match="there is no snapshot"):
        restore(root, "third")
    other = index_settings(terms="terms-b", candidates=50, seal_entries=8, merge_fan=2)
    with pytest.raises(MismatchError, match="terms-b"):
        restore_snapshot(IndexGenerations(root / "index"), root / "snapshots" / "copied", other, lambda stats: None)
    assert sorted(each.name for each in (root / "index").iterdir()) == ["building", "current", "gen-000001"]


def test_a_damaged_snapshot_is_refused_and_the_file_named(root: Path) -> None:
    snapshot = root / "snapshots" / "copied"
    for file in sorted(snapshot.iterdir()):
        content = file.read_bytes()
        last_section = content[:-1] + bytes([*content[-1:]]).translate(bytes(each ^ 1 for each in range(256)))
        for damaged in (None, b"", content[: len(content) // 2], b"x" + content[1:], last_section):
            if damaged == content:
                continue  # an empty log
            file.unlink() if damaged is None else file.write_bytes(damaged)
            if damaged is None and file.name == "snapshot.json":
                continue  # as a snapshot of an earlier release
            if damaged == last_section and file.suffix == ".json":
                continue  # the line break at the end
            with pytest.raises(IndexDamagedError, match=file.name.split("-")[0]):
                restore(root)
            file.write_bytes(content)
        file.write_bytes(content)
    assert serving(root).name == "gen-000001"
    assert holds(restore(root), AT_SNAPSHOT)


def _steps(root: Path) -> int:
    """How many calls that change the disk a restore makes."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    with _counted(count):
        restore(root)
    return calls


@contextmanager
def _counted(before: Callable[..., None]) -> Iterator[None]:
    """Calls `before` ahead of each link, rename, sync and removal."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((os, "link"), (os, "fsync"), (os, "rename"), (Path, "rename"), (Path, "replace")):
            real = getattr(owner, name)

            def wrapped(*arguments: object, _real: Callable[..., object] = real) -> object:
                before()
                return _real(*arguments)

            patch.setattr(owner, name, wrapped)
        yield


def test_a_restore_that_is_killed_at_any_step_leaves_the_old_or_the_new(made: Path, tmp_path: Path) -> None:
    steps = _steps(Path(shutil.copytree(made, tmp_path / "count")))
    assert steps > 10
    ends = set()
    for step in range(1, steps + 1):
        root = Path(shutil.copytree(made, tmp_path / f"{step}"))
        pid = os.fork()
        if pid == 0:
            left = step

            def die() -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(0)

            with _counted(die):
                restore(root)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        name = serving(root).name
        assert holds(serving(root), {"gen-000001": LATER, "gen-000002": AT_SNAPSHOT}[name])
        ends.add(name)
        assert holds(restore(root), AT_SNAPSHOT)
    assert ends == {"gen-000001", "gen-000002"}


def test_snapshots_are_listed_with_their_age(made: Path) -> None:
    linked, copied = snapshots(made / "snapshots")
    assert linked.created_at_ms <= copied.created_at_ms
    assert linked.position.offset == copied.position.offset == AT_SNAPSHOT - 1
    assert snapshots(made / "none") == []
