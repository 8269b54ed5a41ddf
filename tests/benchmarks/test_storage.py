"""`make bench-storage`: its parts do what they say, on a small store."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.storage import SMALL, fill, giant_member, half_leave, heads_in_process, name_of, pages, writes
from benchmarks.storage_moves import measure_forgets, measure_moves
from storage.rocks.store import RocksStore
from storage.verify import verify


def test_its_parts(tmp_path: Path) -> None:
    folder, images, giant = tmp_path / "store", 1_200, 4_000
    fill(folder, images, giant)
    rates = heads_in_process(folder, images, 0.03)
    assert all(value > 0 for value in rates.values())
    half_leave(folder, giant)
    found = pages(folder)
    assert set(found) == {
        f"{at}, {order} first" for at in ("first", "middle", "last") for order in ("oldest", "newest")
    }
    assert writes(folder, images, 0.05)["images_per_s"] > 0
    with closing(RocksStore(folder)) as store, store.snapshot() as view:
        assert list(verify(view))[-1].problems == ()
        cluster = store.cluster(giant_member(0))
        assert cluster is not None
        assert cluster.count == giant // 2
        assert store.heads([name_of(7)]).heads == {name_of(7): name_of(6)}
        assert view.state().images > images + SMALL + giant


def test_moves_of_more_than_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.storage_moves.BEFORE_S", 0.1)
    giant = 10_002
    fill(tmp_path / "store", 12, giant)
    found = measure_moves(tmp_path / "store", giant)
    assert (found["rollback"]["images"], found["merge"]["images"]) == (giant - 1, giant)
    with closing(RocksStore(tmp_path / "store")) as store, store.snapshot() as view:
        assert list(verify(view))[-1].problems == ()
        cluster = store.cluster(name_of(0))
        assert cluster is not None
        assert (cluster.count, store.cluster(giant_member(0))) == (6 + giant - giant // 2, None)
        assert found["split"]["images"] == store.cluster(giant_member(1)).count == giant // 2  # type: ignore[union-attr]
    assert found["undo"]["images"] == giant // 2 + 1


def test_heads_that_are_forgotten(tmp_path: Path) -> None:
    fill(tmp_path / "store", 12, 500)
    found = measure_forgets(tmp_path / "store")
    assert (found["forget"]["images"], found["forget_at_once"]["images"]) == (499, 498)
    with closing(RocksStore(tmp_path / "store")) as store, store.snapshot() as view:
        assert list(verify(view))[-1].problems == ()
        assert store.members(giant_member(2), 1).items == (giant_member(2),)
        assert len(store.operations(0, 9)) == 1
