"""Moments, scans and failed writes of one open database."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rocksdict import DbClosedError

from core.errors import NeardupError, SettingsError, UnavailableError
from core.types import ImageId
from storage.errors import (
    CorruptedError,
    DiskFullError,
    IncompatibleError,
    LockedError,
    StorageError,
    WriteError,
)
from storage.rocks import database
from storage.rocks.database import Database
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.rocks.translate import translated
from storage.testing.decisions import A, B, assert_holds, fill, founds, put
from storage.testing.model import LOG, StoreModel, seeded_actions

QUICK = RocksOptions(sync=False)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    store = RocksStore(tmp_path / "store", options=QUICK)
    yield store
    store.close()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("IO error: No space left on device: While appending to file: 000004.log", DiskFullError),
        ("IO error: While appending to file: 000004.log: File too large", DiskFullError),
        ("IO error: Disk quota exceeded", DiskFullError),
        ("IO error: Input/output error", WriteError),
        ("IO error: lock hold by current process, acquire time 17", LockedError),
        ("IO error: While lock file: db/LOCK: Resource temporarily unavailable", LockedError),
        ("Corruption: block checksum mismatch", CorruptedError),
        ("Invalid argument: db/CURRENT: does not exist (create_if_missing is false)", CorruptedError),
        ("Invalid argument: Column families not opened: other", IncompatibleError),
        ("something else", StorageError),
    ],
)
def test_every_error_of_the_library_is_one_of_ours(tmp_path: Path, text: str, kind: type[Exception]) -> None:
    with pytest.raises(NeardupError, match=str(tmp_path)) as caught, translated(tmp_path):
        raise Exception(text)
    assert type(caught.value) is kind


def test_our_errors_pass_and_a_closed_database_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CorruptedError, match="mine"), translated(tmp_path):
        raise CorruptedError("mine")
    with pytest.raises(UnavailableError), translated(tmp_path):
        raise DbClosedError("closed")


def test_settings_are_checked() -> None:
    with pytest.raises(SettingsError, match="cache_mib"):
        RocksOptions(cache_mib=0)


@pytest.mark.parametrize("tries", [0, 1, 8])
def test_a_moment_is_one_moment_in_all_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int) -> None:
    """A writer puts the same number into two families; no moment may show two numbers, with the lock or without."""
    monkeypatch.setattr(database, "TRIES", tries)
    db = Database(tmp_path / "db", QUICK, create=True)
    db.write([("images", b"n", b"0"), ("history", b"n", b"0")])
    done = threading.Event()

    def count() -> None:
        number = 0
        while not done.is_set():
            number += 1
            value = str(number).encode()
            db.write([("images", b"n", value), ("history", b"n", value)])

    writer = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    writer.start()
    try:
        seen = set()
        while len(seen) < 100:
            moment = db.moment()
            rows = moment.cursors["history"]
            rows.seek_to_first()
            seen.add((moment.snapshots["images"][b"n"], moment.snapshots["history"][b"n"], rows.value()))
    finally:
        done.set()
        writer.join()
        sys.setswitchinterval(interval)
    del moment, rows
    db.close()
    assert all(len(set(numbers)) == 1 for numbers in seen)


def test_scans_of_one_family_may_be_mixed(store: RocksStore) -> None:
    model = StoreModel()
    fill(store, model, seeded_actions(2, 200, ids=60), batch=20)
    with store.snapshot() as view:
        alone = [image.image_id for image in view.images()]
        mixed = list[ImageId]()
        for image in view.images():
            mixed.append(image.image_id)
            assert next(view.images()).image_id == alone[0]
        assert mixed == alone
        assert list(zip(view.edges(), view.edges(), strict=True)) == [(edge, edge) for edge in view.edges()]


def test_a_view_that_has_ended_says_so(store: RocksStore) -> None:
    with store.snapshot() as view:
        rows = view.images()
    for call in (view.state, lambda: view.image(A), lambda: next(rows)):
        with pytest.raises(UnavailableError):
            call()


class Breaking:
    """A database whose writes fail, before or after they reach the disk."""

    def __init__(self, inner: Database, after: bool) -> None:
        self._inner = inner
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write(self, writes: Any, ranges: Any = ()) -> None:
        if self._after:
            self._inner.write(writes, ranges)
        raise WriteError("the disk said no")


@pytest.mark.parametrize("after", [False, True])
def test_after_a_failed_write_the_disk_says_where_the_store_is(store: RocksStore, after: bool) -> None:
    put(store, founds(0, A))
    store._database = Breaking(store._database, after)  # type: ignore[assignment, arg-type]
    with pytest.raises(WriteError):
        put(store, founds(1, B))
    state = store.state()
    store.apply(LOG, [], state.position.offset, 0)
    assert store.position().offset == (1 if after else 0)
    if not after:
        put(store, founds(1, B))
    assert store.state().images == 2


@pytest.mark.parametrize("after", [False, True])
def test_a_sweep_that_failed_is_there_whole_or_not_at_all(store: RocksStore, after: bool) -> None:
    model = StoreModel()
    fill(store, model, seeded_actions(4, 50), batch=10)
    store.set_published(len(model.history))
    store._database = Breaking(store._database, after)  # type: ignore[assignment, arg-type]
    with pytest.raises(WriteError):
        store.sweep_history(20, 100)
    store.set_published(len(model.history))  # the next write opens the database again
    assert store.state().history_first == (20 if after else 1)
    assert_holds(store, model)
    assert store.sweep_history(20, 100) == (0 if after else 19)
    assert_holds(store, model)


def test_a_batch_that_cannot_be_encoded_writes_nothing(store: RocksStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = StoreModel()
    fill(store, model, seeded_actions(4, 50), batch=10)
    written = model.copy()

    def fail(*_: object) -> bytes:
        raise RuntimeError("halfway")

    monkeypatch.setattr("storage.state_codec.encode_state", fail)
    with pytest.raises(RuntimeError, match="halfway"):
        fill(store, model, seeded_actions(5, 10), batch=10)
    monkeypatch.undo()
    assert_holds(store, written)
