"""Power cuts of a writing process: files end at their last sync, or lose pages after it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.rocks.store import RocksStore
from storage.testing.decisions import assert_holds
from storage.testing.model import StoreModel, seeded_actions
from tests.support.power_cut import DurableFiles, has_compiler
from tests.support.store_writer import SMALL

ROOT = Path(__file__).parents[3]
SEED, COUNT = 11, 20_000


@pytest.mark.skipif(not has_compiler(), reason="the recorder needs a C compiler")
@pytest.mark.parametrize("zeros", [False, True])
def test_a_store_comes_back_from_every_power_cut(tmp_path: Path, zeros: bool) -> None:
    """Eight cuts in a row, at random moments; logs and tables are written and removed all the time."""
    dice, model, acknowledged = random.Random(7), StoreModel(), -1
    actions = seeded_actions(SEED, COUNT)
    folder, scratch = tmp_path / "store", tmp_path / "scratch"
    folder.mkdir()
    for _ in range(8):
        durable = DurableFiles(folder, scratch)
        with durable.recorded():
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.store_writer", str(folder), str(SEED), str(COUNT)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            time.sleep(dice.uniform(0.0, 0.4))
        finally:
            process.kill()
        for line in [first, *process.stdout]:
            if line.startswith("offset") and line.endswith("\n"):
                acknowledged = int(line.split()[1])
        process.wait()
        process.stdout.close()
        durable.cut(zeroing=dice if zeros else None)
        store = RocksStore(folder, "killed", SMALL)
        try:
            reached = store.position().offset
            assert acknowledged <= reached
            while model.offset < reached:
                model.decide(actions[model.offset + 1])
            assert_holds(store, model)
        finally:
            store.close()
    assert acknowledged > 200
