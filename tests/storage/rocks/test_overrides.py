"""Overrides outlive the database: after a crash between both files, and after it is built again from the order."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from core.errors import StaleError, UnavailableError
from core.overrides import OverrideKind
from core.types import Decision, ImageId, ImageRules
from storage import base
from storage.bulk.operations import OperationState
from storage.errors import CorruptedError, StorageError, WriteError
from storage.rocks import marker
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import A, B, C, founds, joins, put
from storage.testing.model import LOG
from storage.testing.overrides import JOB, heads, say
from storage.verify import verify

FAST = RocksOptions(sync=False)


def open_store(folder: Path) -> RocksStore:
    return RocksStore(folder, options=FAST)


def rebuilt(folder: Path) -> None:
    """Takes the database away, so that the next start makes a new one."""
    (folder / "store.json").unlink()
    shutil.rmtree(folder / "db")


def test_they_stand_after_the_store_is_opened_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    say(store, OverrideKind.FORBID, B, target=A)
    state, rules = store.state(), store.look_up([A, B]).rules
    store.close()
    store = open_store(tmp_path)
    assert (store.state(), store.look_up([A, B]).rules) == (state, rules)
    assert [each.waits for each in store.overrides(0, 10)] == [False]
    store.close()


def test_one_that_was_kept_and_not_applied_is_applied_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)

    def fails(changes: Any) -> None:
        raise WriteError("the disk is gone")

    monkeypatch.setattr(store, "_commit", fails)
    with pytest.raises(WriteError):
        say(store, OverrideKind.FORBID, B, target=A)
    assert heads(store) == {A: A, B: A}
    store.close()
    store = open_store(tmp_path)
    assert heads(store) == {A: A, B: B}
    assert (store.state().overrides, store.state().revision) == (1, 1)
    store.close()


def test_one_that_the_disk_refused_is_applied_before_the_next_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    before = store.state()
    with monkeypatch.context() as patch:
        patch.setattr(store, "_commit", lambda changes: (_ for _ in ()).throw(WriteError("full")))
        with pytest.raises(WriteError):
            say(store, OverrideKind.FORBID, B, target=A)
    with pytest.raises(StaleError):
        store.apply(LOG, [joins(2, C, A)], 1, before.revision, JOB)
    assert heads(store) == {A: A, B: B}
    store.close()


def apply_all(store: RocksStore, decisions: list[Decision]) -> int:
    """Applies as the job does: after a stale write it goes on with what is not committed yet. Counts these."""
    stale = 0
    while left := [each for each in decisions if each.offset > store.position().offset]:
        state = store.state()
        try:
            store.apply(LOG, left, state.position.offset, state.revision, JOB)
        except StaleError:
            stale += 1
            if store.image(B) is not None and store.look_up([B]).memberships[B].head == B:
                decisions = [*decisions[:3], joins(3, ImageId("d"), B)]
    return stale


def test_a_store_that_is_built_again_applies_them_where_they_were_applied_first(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB)
    say(store, OverrideKind.FORBID, B, target=A)
    say(store, OverrideKind.PIN, C, target=B)
    put(store, joins(3, ImageId("d"), B), kinds=JOB)
    held, entries = heads(store), store.history(0, 100)
    store.close()
    rebuilt(tmp_path)
    store = open_store(tmp_path)
    assert [each.waits for each in store.overrides(0, 10)] == [True, True]
    assert store.look_up([A, B]).rules == {}
    with pytest.raises(UnavailableError, match=r"built again .* override 1 comes after position 2"):
        say(store, OverrideKind.FORBID, C, target=A)
    # In one batch: the job that decided without the overrides is told at their position.
    assert apply_all(store, [founds(0, A), joins(1, B, A), joins(2, C, A), joins(3, ImageId("d"), A)]) == 1
    assert (heads(store), store.history(0, 100)) == (held, entries)
    assert [each.waits for each in store.overrides(0, 10)] == [False, False]
    store.close()


def test_a_store_without_its_overrides_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    say(store, OverrideKind.FORBID, B, target=A)
    store.close()
    (tmp_path / "overrides.log").rename(tmp_path / "elsewhere")
    with pytest.raises(CorruptedError, match="put that file back"):
        open_store(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "overrides.log")
    store = open_store(tmp_path)
    with store.snapshot() as view:
        assert [progress.problems for progress in verify(view)][-1] == ()
    store.close()


def test_a_refused_append_keeps_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    (tmp_path / "overrides.log").mkdir()
    with pytest.raises(StorageError):
        say(store, OverrideKind.FORBID, B, target=A)
    assert (store.overrides(0, 10), store.look_up([A]).rules, heads(store)) == ([], {}, {A: A, B: A})
    (tmp_path / "overrides.log").rmdir()
    assert say(store, OverrideKind.FORBID, B, target=A).created
    store.close()


def test_nothing_is_written_while_a_refused_override_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "gone")))
        with pytest.raises(WriteError):
            say(store, OverrideKind.FORBID, B, target=A)
        with pytest.raises(WriteError):
            put(store, joins(2, C, A), kinds=JOB)
    put(store, joins(2, C, A), kinds=JOB)
    store.close()
    store = open_store(tmp_path)
    assert (store.overrides(0, 10), heads(store)) == ([], {A: A, B: A, C: A})
    store.close()


def test_a_converted_store_of_the_format_before_is_opened_twice(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    store.close()
    (tmp_path / "db").rename(tmp_path / "db-000002")
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(marker, "FORMAT_VERSION", 4)
        marker.write_marker(tmp_path, "", "db-000002")
    for _ in range(2):
        store = open_store(tmp_path)
        assert heads(store) == {A: A, B: A}
        store.close()


def test_an_override_of_many_images_is_planned_beside_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "MAX_MOVED", 1)
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), joins(2, C, A), kinds=JOB)
    unseen = [ImageId("one"), ImageId("another")]
    said = say(store, OverrideKind.PIN, *unseen, target=A)
    assert (said.created, said.moves, store.operations(0, 1)) == (True, (), [])  # nothing moves
    assert store.state().overrides == 1
    assert say(store, OverrideKind.PIN, *unseen, target=A).override == said.override
    planned = say(store, OverrideKind.SPLIT, B, C, target=A)
    assert (planned.override.number, len(planned.moves), store.operations(0, 1)[0].total) == (2, 2, 2)
    with pytest.raises(UnavailableError, match="the bulk move 1 is under way"):
        say(store, OverrideKind.PIN, ImageId("third"), ImageId("fourth"), target=A)
    while store.settle(1):
        pass
    assert store.operations(0, 1)[0].state is OperationState.DONE
    assert heads(store) == {A: A, B: B, C: B}
    store.close()
    store = open_store(tmp_path)
    while store.settle(1):
        pass
    assert heads(store) == {A: A, B: B, C: B}
    assert store.look_up([unseen[0]]).rules == {unseen[0]: ImageRules(A)}
    store.close()


def test_a_store_that_is_built_again_asks_for_no_image_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), joins(1, B, A), kinds=JOB)
    say(store, OverrideKind.FORBID, B, target=A)
    put(store, joins(2, C, A), kinds=JOB)
    say(store, OverrideKind.UNDO, undoes=1)
    assert store.state().requeued == 0
    store.close()
    rebuilt(tmp_path)
    store = open_store(tmp_path)
    apply_all(store, [founds(0, A), joins(1, B, A), joins(2, C, A)])
    assert (store.state().overrides, store.state().requeued) == (2, 2)
    say(store, OverrideKind.FORBID, C, target=A)
    put(store, founds(4, ImageId("f")), kinds=JOB)
    say(store, OverrideKind.UNDO, undoes=3)
    assert store.state().requeued == 2
    store.close()


def test_one_call_applies_so_many_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    put(store, founds(0, A), kinds=JOB)
    for image in (B, C, ImageId("d")):
        say(store, OverrideKind.FORBID, A, target=image)
    store.close()
    rebuilt(tmp_path)
    monkeypatch.setattr(RocksStore._ready, "__defaults__", (2,))
    store = open_store(tmp_path)
    with pytest.raises(UnavailableError, match="1 are left"):
        put(store, founds(0, A), kinds=JOB)
    with pytest.raises(StaleError):
        put(store, kinds=JOB)
    assert (store.state().overrides, heads(store)) == (3, {A: A})
    store.close()
