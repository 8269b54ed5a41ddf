"""Reads without a snapshot: of one moment beside a writer that never rests, and never in the way of a close."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from core.errors import UnavailableError
from core.types import ImageId
from storage.errors import CorruptedError
from storage.rocks import store as store_module
from storage.rocks.database import Database
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.decisions import A, B, founds, joins, put

UNSYNCED = RocksOptions(sync=False)


def test_a_store_that_is_always_written_is_read_from_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RocksStore(tmp_path, options=UNSYNCED)
    put(store, founds(0, A), joins(1, B, A))
    numbers = iter(range(1_000))
    monkeypatch.setattr(Database, "sequence", lambda self: next(numbers))
    assert store.heads([A, B]).heads == {A: A, B: A}
    assert next(numbers) == 2 * store_module.TRIES
    store.close()


def test_a_read_at_once_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes a moment holds the gate while another thread syncs a write; the event loop must go on."""
    store = RocksStore(tmp_path, options=UNSYNCED)
    put(store, founds(0, A))
    assert store.image_at_once(A) == store.image(A) is not None
    assert store.image_at_once(B) is None
    with store._gate:
        assert store.image_at_once(A) is None
    assert store.image_at_once(A) is not None
    with monkeypatch.context() as patched:
        numbers = iter(range(1_000))
        patched.setattr(Database, "sequence", lambda self: next(numbers))
        patched.setattr(RocksStore, "snapshot", None)
        assert store.image_at_once(A) is None
    store.close()
    with pytest.raises(UnavailableError):
        store.image_at_once(A)


@pytest.mark.parametrize("first", ["heads", "look_up"])
def test_damage_is_told_as_ours(tmp_path: Path, first: str) -> None:
    store = RocksStore(tmp_path, options=UNSYNCED)
    put(store, founds(0, A))
    store._write([("images", b"a", b"short")])
    with pytest.raises(CorruptedError, match="'a' is damaged"):
        getattr(store, first)([A])
    store.close()


def test_a_close_waits_for_reads_and_the_folder_is_free_at_once(tmp_path: Path) -> None:
    ids = [ImageId(f"i{number}") for number in range(200)]
    ended: list[str] = []

    def read(store: RocksStore) -> None:
        try:
            while True:
                store.heads(ids)
        except UnavailableError as error:
            ended.append(str(error))

    for round_number in range(5):
        store = RocksStore(tmp_path, options=UNSYNCED)
        if not round_number:
            put(store, *[founds(number, image) for number, image in enumerate(ids)])
        readers = [threading.Thread(target=read, args=(store,)) for _ in range(3)]
        for reader in readers:
            reader.start()
        store.heads(ids)
        store.close()
        RocksStore(tmp_path, options=UNSYNCED).close()
        for reader in readers:
            reader.join()
    assert ended == ["the store is closed"] * 15
