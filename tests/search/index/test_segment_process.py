"""A process of its own makes the same segments, ends whenever it should, and is replaced when it dies."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.apart import WorkStopped
from search.index.columns import Columns, Kind
from search.index.engine import SegmentedIndex
from search.index.errors import IndexDamagedError
from search.index.id_table import IdColumn
from search.index.planning import RecordShape
from search.index.segment import Segment
from search.index.segment_maker import LocalMaker
from search.index.segment_process import ProcessMaker, Supervision
from tests.search.index.index_oracle import Oracle, index_settings
from tests.search.index.test_housekeeping import WAIT_S, agree, grown, until

SHAPE = RecordShape(groups=4, bits_per_group=8, code_bytes=3)


def columns(first: int, count: int) -> Columns:
    random = np.random.default_rng(first)
    return Columns(
        np.arange(first, first + count),
        np.ones(count, np.uint64),
        np.full(count, Kind.SEARCHABLE, np.uint8),
        IdColumn.of([f"i{place}" for place in range(first, first + count)]),
        random.integers(0, 4, (count, 4), np.uint8),
        [random.integers(0, 256, (count, 3), np.uint8)],
    )


class Watched:
    """A maker and what it is watched with."""

    def __init__(self, folder: Path, bytes_per_s: float) -> None:
        self.stopped, self.urgent = threading.Event(), threading.Event()
        self.lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
        self.maker = ProcessMaker(SHAPE, False, bytes_per_s, Supervision(self.stopped, self.urgent.is_set, self.lock))

    @property
    def pid(self) -> int:
        until(lambda: self.maker._child is not None)
        assert self.maker._child is not None
        return self.maker._child.process.pid


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path, 0.0)
    yield watched
    watched.maker.close()
    os.close(watched.lock)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Watched]:
    """Makes a byte an hour."""
    watched = Watched(tmp_path, 1 / 3600)
    yield watched
    watched.maker.close()
    os.close(watched.lock)


def begun(watched: Watched, path: Path) -> tuple[threading.Thread, list[BaseException]]:
    """A seal in another thread, once it writes, and what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            watched.maker.seal(path, columns(0, 50))
        except (OSError, WorkStopped) as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, raised


def test_files_are_the_same_byte_for_byte(tmp_path: Path, fast: Watched) -> None:
    local = LocalMaker(SHAPE, False)
    for maker, name in ((local, "local"), (fast.maker, "process")):
        for number, first in enumerate((0, 40)):
            maker.seal(tmp_path / f"{name}-{number}", columns(first, 40))
        old = [Segment(tmp_path / f"{name}-{number}", SHAPE) for number in range(2)]
        hides = ({3: 11, 4: 90}, {1: 90})
        assert maker.merge(tmp_path / f"{name}-merged", old, hides, released=20) == {4: 90, 41: 90}
    for part in ("0", "1", "merged"):
        assert (tmp_path / f"process-{part}").read_bytes() == (tmp_path / f"local-{part}").read_bytes()


def test_an_index_with_processes_answers_as_ever(tmp_path: Path) -> None:
    settings = replace(index_settings(candidates=5, seal_entries=8, merge_fan=2), background_process=True)
    index, oracle = SegmentedIndex(tmp_path / "index", settings), Oracle(settings)
    for _ in range(6):
        grown(index, oracle, 8)
        index.hide(oracle.position - 2)
        oracle.hide(oracle.position - 2)
    until(lambda: index.stats().tail == 0 and index.stats().segments <= 2)
    agree(index, oracle)
    index.close()
    index = SegmentedIndex(tmp_path / "index", settings, background=False)  # the lock is free again
    agree(index, oracle)
    index.close()


def test_errors_come_back(tmp_path: Path, fast: Watched) -> None:
    with pytest.raises(FileNotFoundError):
        fast.maker.seal(tmp_path / "nowhere" / "segment", columns(0, 5))
    fast.maker.seal(tmp_path / "segment", columns(0, 5))
    old = Segment(tmp_path / "segment", SHAPE)
    (tmp_path / "segment").write_bytes(b"damaged")
    with pytest.raises(IndexDamagedError):
        fast.maker.merge(tmp_path / "merged", [old], [{}], 0)
    fast.maker.seal(tmp_path / "another", columns(0, 5))  # the process goes on
    assert len(Segment(tmp_path / "another", SHAPE)) == 5


def test_a_killed_process_is_replaced(tmp_path: Path, slow: Watched) -> None:
    thread, raised = begun(slow, tmp_path / "segment")
    pid = slow.pid
    os.kill(pid, 9)
    thread.join(WAIT_S)
    assert "has ended" in str(raised[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]
    slow.urgent.set()
    slow.maker.seal(tmp_path / "again", columns(0, 50))
    assert len(Segment(tmp_path / "again", SHAPE)) == 50
    assert slow.pid != pid


def test_work_that_is_stopped_leaves_nothing(tmp_path: Path, slow: Watched) -> None:
    thread, raised = begun(slow, tmp_path / "segment")
    pid = slow.pid
    slow.stopped.set()
    thread.join(WAIT_S)
    assert isinstance(raised[0], WorkStopped)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock"]
    assert not Path(f"/proc/{pid}").exists()


def test_work_that_becomes_urgent_is_hurried(tmp_path: Path) -> None:
    watched = Watched(tmp_path, 20.0)  # the file alone would take more than a minute
    thread, raised = begun(watched, tmp_path / "segment")
    assert watched.pid
    thread.join(1.0)
    assert thread.is_alive()
    watched.urgent.set()
    thread.join(WAIT_S)
    assert raised == []
    assert (tmp_path / "segment").stat().st_size > 20 * WAIT_S
    watched.maker.close()
    os.close(watched.lock)


def test_the_folder_stays_locked_while_the_process_lives(tmp_path: Path, fast: Watched) -> None:
    fcntl.flock(fast.lock, fcntl.LOCK_EX)
    fast.maker.seal(tmp_path / "segment", columns(0, 5))
    ours = os.dup(fast.lock)
    os.close(fast.lock)
    fast.lock = os.open(tmp_path / "lock", os.O_RDWR)
    os.close(ours)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fast.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fast.maker.close()
    fcntl.flock(fast.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


_DYING = """
import os, sys
from pathlib import Path
from tests.search.index.test_segment_process import Watched, columns
watched = Watched(Path(sys.argv[1]), 0.0)
watched.maker.seal(Path(sys.argv[1]) / "segment", columns(0, 5))
print(watched.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_it_dies_with_the_process_of_the_index(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _DYING, str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -9
    pid = int(done.stdout)
    until(lambda: not Path(f"/proc/{pid}").exists() or b"Z" in Path(f"/proc/{pid}/stat").read_bytes().split()[2:3])
