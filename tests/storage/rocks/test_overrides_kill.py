"""A process that says overrides is killed at any instant: what it was told stands, and the relations agree."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.overrides import OverrideKind
from storage.rocks.store import RocksStore
from storage.testing.overrides import heads

ROOT = Path(__file__).parents[3]

MEMBERS = 400

WRITER = f"""
import sys
from pathlib import Path

from core.overrides import OverrideKind
from core.types import ImageId
from storage.rocks.store import RocksStore
from storage.testing.decisions import founds, joins, put
from storage.testing.overrides import JOB, say

store = RocksStore(Path(sys.argv[1]))
ids = [ImageId(f"image-{{number}}") for number in range({MEMBERS})]
if not store.state().images:
    put(store, founds(0, ids[0]), *(joins(at, each, ids[0]) for at, each in enumerate(ids[1:], 1)), kinds=JOB)
for number in range(store.state().overrides, 10**6):
    image = ids[1 + number // 2 % ({MEMBERS} - 1)]
    if number % 2:
        said = say(store, OverrideKind.UNDO, undoes=number)
    else:
        kind = OverrideKind.FORBID if store.look_up([image]).memberships[image].head == ids[0] else OverrideKind.PIN
        said = say(store, kind, image, target=ids[0])
    print(said.override.number, flush=True)
"""


@pytest.mark.parametrize("seed", range(2))
def test_what_was_acknowledged_stands(tmp_path: Path, seed: int) -> None:
    dice, told = random.Random(seed), 0
    for _ in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        told = int(writer.stdout.readline())
        time.sleep(dice.uniform(0.0, 0.4))
        writer.send_signal(signal.SIGKILL)
        told = max([told, *map(int, writer.stdout.read().splitlines())])
        writer.wait()
        store = RocksStore(tmp_path)
        said = [each.override for each in store.overrides(0, 100_000)]
        assert [each.number for each in said] == list(range(1, len(said) + 1))
        assert told <= len(said) <= told + 1
        assert store.state().overrides == len(said)
        found = heads(store)
        last = {each.images[0]: each.kind for each in said if each.kind is not OverrideKind.UNDO}
        expected = {each: kind is OverrideKind.PIN for each, kind in last.items()}
        assert {each: found[each] == "image-0" for each in expected} == expected
        store.close()
