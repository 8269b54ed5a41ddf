"""Sealing and merging beside calls: neither waits for the other, nothing hidden meanwhile is lost, any end is clean."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnavailableError
from search.index import segment_maker, segment_store, sliced_file
from search.index.columns import Columns
from search.index.engine import SegmentedIndex
from search.index.rate_limiter import RateLimiter
from search.index.segment import write_segment
from search.index.segment_maker import LocalMaker
from tests.search.index.index_oracle import LOG, Oracle, index_settings, insert, plain

SETTINGS = index_settings(candidates=5, seal_entries=8, merge_fan=2)
WAIT_S = 30.0


class Gate:
    """Holds back the writing of segments of some sizes."""

    def __init__(self, holds: Callable[[Columns], bool]) -> None:
        self.holds = holds
        self.reached, self.opened = threading.Event(), threading.Event()
        self._write = write_segment

    def write(self, path: Path, columns: Columns, *rest: Any) -> None:
        if self.holds(columns):
            self.reached.set()
            assert self.opened.wait(WAIT_S)
        self._write(path, columns, *rest)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(lambda columns: len(columns) > 12)
    monkeypatch.setattr(segment_maker, "write_segment", gate.write)
    yield gate
    gate.opened.set()


def grown(index: SegmentedIndex, oracle: Oracle, count: int) -> None:
    """Adds images, eight at a time; every other one replaces the image eight places before it."""
    for first in range(oracle.position + 1, oracle.position + 1 + count, 8):
        records = [
            insert(at, f"i{at - 8 * (at % 2)}", at + 1, (at % 3, 1, at % 2, 0)) for at in range(first, first + 8)
        ]
        index.insert_and_search(LOG, records)
        oracle.apply(records)


def agree(index: SegmentedIndex, oracle: Oracle) -> None:
    assert [plain(one) for one in index.insert_and_search(LOG, oracle.log)] == [oracle.answer(r) for r in oracle.log]
    assert index.images == oracle.images()


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come to that")


def test_tails_are_sealed_beside_a_merge_and_nothing_hidden_meanwhile_is_lost(tmp_path: Path, gate: Gate) -> None:
    index, oracle = SegmentedIndex(tmp_path / "index", SETTINGS), Oracle(SETTINGS)
    grown(index, oracle, 16)
    assert gate.reached.wait(WAIT_S)
    index.hide(2)  # in the segments that are being merged
    oracle.hide(2)
    grown(index, oracle, 40)
    until(lambda: index.stats().tail == 0)  # so the log that hid place 2 is gone
    assert index.stats().merging
    gate.opened.set()
    until(lambda: index.stats().segments <= 2)
    agree(index, oracle)
    index.close()
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    agree(index, oracle)
    index.close()


def test_a_writer_that_waits_for_room_lets_the_sealing_make_it(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_store, "_ROOM_WAIT_S", WAIT_S)
    gate.holds = lambda _: True
    index, oracle = SegmentedIndex(tmp_path / "index", SETTINGS), Oracle(SETTINGS)
    grown(index, oracle, 64)
    writer = threading.Thread(target=grown, args=(index, oracle, 64))
    writer.start()
    assert gate.reached.wait(WAIT_S)
    writer.join(0.2)
    assert writer.is_alive()
    gate.opened.set()
    writer.join(WAIT_S)
    assert oracle.position == 127
    agree(index, oracle)
    index.close()


def test_without_room_the_writer_is_told_to_come_again_and_repeats_are_answered(
    tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_store, "_ROOM_WAIT_S", 0.01)
    gate.holds = lambda _: True
    index, oracle = SegmentedIndex(tmp_path / "index", SETTINGS), Oracle(SETTINGS)
    grown(index, oracle, 64)
    with pytest.raises(UnavailableError, match="8 full tails") as caught:
        index.insert_and_search(LOG, [insert(64, "late")])
    assert caught.value.retry_after_s is not None
    agree(index, oracle)
    gate.opened.set()
    index.close()


def test_closing_breaks_off_what_would_take_hours(tmp_path: Path) -> None:
    slow = replace(SETTINGS, background_bytes_per_s=0.01)
    index, oracle = SegmentedIndex(tmp_path / "index", slow), Oracle(slow)
    grown(index, oracle, 8)
    index.close()
    assert not [path.name for path in (tmp_path / "index").iterdir() if path.name.startswith("segment")]
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    agree(index, oracle)
    index.close()


def test_a_process_killed_at_any_slice_of_sealing_or_merging_opens_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What kill -9 leaves is what the folder holds at that moment."""
    monkeypatch.setattr(sliced_file, "SLICE_BYTES", 1500)
    index, oracle = SegmentedIndex(tmp_path / "index", SETTINGS, background=False), Oracle(SETTINGS)
    grown(index, oracle, 16)
    images: list[tuple[Path, Oracle]] = []

    class Killing(RateLimiter):
        def spend(self, amount: int) -> None:
            images.append((tmp_path / f"killed-{len(images)}", Oracle(SETTINGS, oracle.log, oracle.hides.copy())))
            shutil.copytree(tmp_path / "index", images[-1][0])

    maker = LocalMaker(SETTINGS.shape, SETTINGS.sync, Killing(0.0, threading.Event()))
    while index._store.seal(maker) or index._store.merge(maker):
        index.hide(len(images) % 16)
        oracle.hide(len(images) % 16)
    index.close()
    assert len(images) > 15
    assert any(path.name.endswith(".tmp") for image, _ in images for path in image.iterdir())
    for image, then in images:
        again = SegmentedIndex(image, SETTINGS, background=False)
        assert [path.name for path in image.iterdir() if path.name.endswith(".tmp")] == []
        agree(again, then)
        again.tidy()
        agree(again, then)
        again.close()
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    agree(index, oracle)
    index.close()


@pytest.mark.parametrize("call", ["os.posix_fallocate", "os.pwrite", "os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_is_full_during_a_merge_keeps_its_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    synced = replace(SETTINGS, sync=True)
    index, oracle = SegmentedIndex(tmp_path / "index", synced, background=False), Oracle(synced)
    grown(index, oracle, 24)
    while index._store.seal():
        pass
    before = sorted(path.name for path in (tmp_path / "index").iterdir())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        for _ in range(2):
            with pytest.raises(UnavailableError, match="No space left"):
                index.tidy()
    left = sorted(path.name for path in (tmp_path / "index").iterdir() if path.name != "manifest.json.tmp")
    assert left == before
    agree(index, oracle)
    index.tidy()
    assert index.stats().segments == 1
    agree(index, oracle)
    index.close()


def test_a_segment_whose_file_vanished_goes_on_being_searched_and_is_written_anew_by_a_merge(tmp_path: Path) -> None:
    index, oracle = SegmentedIndex(tmp_path / "index", SETTINGS, background=False), Oracle(SETTINGS)
    grown(index, oracle, 16)
    while index._store.seal():
        pass
    next((tmp_path / "index").glob("segment-*")).unlink()
    agree(index, oracle)
    with pytest.raises(UnavailableError, match="No such file"):
        index.snapshot(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    index.tidy()
    index.close()
    index = SegmentedIndex(tmp_path / "index", SETTINGS, background=False)
    agree(index, oracle)
    index.close()
