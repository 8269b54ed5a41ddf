"""kill -9 of the loading process at ten moments: the same files as without, and nothing is sealed twice."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from search.loading.load_task import LoadTask, Progress
from search.loading.loader import load
from tests.search.loading.manifest_of import given, images, settings

ROOT = Path(__file__).parents[3]
ROWS = 1500
SEGMENT = 60
KILLS = 10


class Starter:
    """The program that starts loaders, and what it says."""

    def __init__(self, task: Path) -> None:
        command = [sys.executable, "-m", "tests.search.loading.killed_loads", str(task)]
        self._program = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = 0

    def start(self) -> None:
        assert self._program.stdin is not None
        self._program.stdin.write("load\n")
        self._program.stdin.flush()
        self.pid = int(self.line()[1])

    def line(self) -> list[str]:
        assert self._program.stdout is not None
        return self._program.stdout.readline().split()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        while self.line() != ["dead"]:
            pass

    def close(self) -> None:
        self._program.kill()
        self._program.wait()
        for pipe in (self._program.stdin, self._program.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def task(tmp_path: Path) -> LoadTask:
    task = given(tmp_path, images(ROWS, 5), 400).task(settings(sync=True), segment_entries=SEGMENT)
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    return task


@pytest.fixture
def starter(tmp_path: Path, task: LoadTask) -> Iterator[Starter]:
    starter = Starter(tmp_path / "task")
    yield starter
    starter.close()


def test_a_load_that_is_killed_ten_times_makes_the_same_files(tmp_path: Path, task: LoadTask, starter: Starter) -> None:
    moments = random.Random(815)
    undisturbed = replace(task, index=tmp_path / "undisturbed")
    found = load(undisturbed, lambda _: None)
    began: list[int] = []
    for kill in range(KILLS):
        starter.start()
        said = starter.line()
        assert said[0] == "rows"
        began.append(int(said[1]))
        last = kill == KILLS - 1
        until = ["verifying"] if last else None
        wanted = began[-1] + moments.randrange(2 * SEGMENT)
        while (said != until) if last else (int(said[1]) < wanted):
            said = starter.line()
        time.sleep(moments.uniform(0.0, 0.004))  # into a batch, or a seal
        starter.kill()
    assert began == sorted(began)
    assert all(rows % SEGMENT == 0 for rows in began)
    assert len(set(began)) > KILLS // 2
    starter.start()
    while (said := starter.line())[0] != "loaded":
        assert said
    assert int(said[1]) == found
    assert len({each.image_id for each in images(ROWS, 5)}) == found
    (folder,), (other,) = task.index.glob("*.load"), undisturbed.index.glob("*.load")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in other.iterdir()
    }


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    load(given(tmp_path, images(50, 1)).task(), told.append)
    assert [one.rows_done for one in told] == [0, 20, 40, 50, 50]
