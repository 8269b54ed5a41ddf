"""kill -9 of a writing process at random moments, and a disk that is full for a while: nothing acknowledged is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from storage.rocks.store import RocksStore
from storage.testing.decisions import assert_holds
from storage.testing.model import StoreModel, seeded_actions
from tests.support.store_writer import SMALL

ROOT = Path(__file__).parents[3]


def start(folder: Path, *arguments: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.store_writer", str(folder), *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def lines(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def test_whatever_is_killed_comes_back_whole(tmp_path: Path) -> None:
    """Ten kills, some in a recovery; after each the store holds exactly what one of its batches left."""
    seed, count, dice = 11, 20_000, random.Random(5)
    actions = seeded_actions(seed, count)
    model, done = StoreModel(), 0
    for kill in range(10):
        process = start(tmp_path / "store", seed, count)
        acknowledged = model.offset
        try:
            if kill != 4:  # the fifth is killed while it opens the store
                acknowledged = int(lines(process).readline().split()[1])
            time.sleep(dice.uniform(0.0, 0.2))
        finally:
            process.kill()
        for line in lines(process):
            if line.startswith("offset") and line.endswith("\n"):
                acknowledged = int(line.split()[1])
        process.wait()
        store = RocksStore(tmp_path / "store", "killed", SMALL)
        try:
            reached = store.position().offset
            assert acknowledged <= reached
            while model.offset < reached:
                done += 1
                model.decide(actions[model.offset + 1])
            assert_holds(store, model)
            assert store.published() <= store.state().history_number
            first = store.state().history_first
        finally:
            store.close()
    assert done > 100
    assert first > 1


def test_a_full_disk_refuses_whole_and_goes_on_by_itself(tmp_path: Path) -> None:
    seed, count = 3, 3_000
    limit_bytes = 8_192  # less than one batch of many, so the limit is met whenever RocksDB begins a new file
    process = start(tmp_path / "store", seed, count, limit_bytes)
    said = lines(process).read().splitlines()
    assert process.wait() == 0
    assert "full" in said
    assert said[-1] == "done"
    model = StoreModel()
    for action in seeded_actions(seed, count):
        model.decide(action)
    store = RocksStore(tmp_path / "store", "killed", SMALL)
    try:
        assert_holds(store, model)
    finally:
        store.close()
