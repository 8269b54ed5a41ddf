"""kill -9 at random moments: what was acknowledged is there, whole batches only, and every answer is the oracle's."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from search.index.chained import ChainedIndex
from tests.search.index.index_oracle import LOG, Oracle, Plain, plain
from tests.search.index.index_writer import SETTINGS, record

ROOT = Path(__file__).parents[3]
KILLS = 12


def write_until_killed(folder: Path, seed: int, seconds: float) -> list[list[str]]:
    """Lets a writer run for so long behind its first acknowledgement; what it said."""
    writer = subprocess.Popen(
        [sys.executable, "-m", "tests.search.index.index_writer", str(folder), str(seed)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first.startswith("ack"), "the writer did not start"
        time.sleep(seconds)
        writer.kill()
        rest = writer.stdout.read()
    finally:
        writer.kill()
        writer.wait()
    lines = (first + rest).splitlines(keepends=True)
    return [line.split() for line in lines if line.endswith("\n")]


def possible_hides(lines: list[list[str]]) -> list[list[tuple[int, int]]]:
    """The hides that must be there, with and without the one that may be."""
    done = [(int(place), int(offset)) for kind, place, *rest in lines if kind == "hidden" for offset in rest]
    last = lines[-1]
    return [done] if last[0] != "hiding" else [done, [*done, (int(last[1]), int(last[2]))]]


def answers_by_oracle(applied: int, hides: list[tuple[int, int]], offsets: list[int]) -> tuple[list[Plain], int]:
    oracle = Oracle(SETTINGS, [record(offset) for offset in range(applied)], hides)
    placed = oracle.placed()
    oracle.placed = lambda: placed  # type: ignore[method-assign] # the history stands still now
    return [oracle.answer(record(offset)) for offset in offsets], oracle.images()


def test_acknowledged_records_survive_kill_9(tmp_path: Path) -> None:
    moments = random.Random(4711)
    folder = tmp_path / "index"
    hides: list[tuple[int, int]] = []
    acknowledged = -1
    for kill in range(KILLS):
        lines = write_until_killed(folder, seed=kill, seconds=moments.uniform(0.0, 0.25))
        acknowledged = max(acknowledged, *(int(line[1]) for line in lines if line[0] == "ack"))
        index = ChainedIndex(folder, SETTINGS)
        position = index.position.offset
        assert position >= acknowledged
        assert index.position.checksum == record(position).checksum
        offsets = sorted({*moments.sample(range(position + 1), min(10, position + 1)), position})
        got = [plain(answer) for at in offsets for answer in index.insert_and_search(LOG, [record(at)])]
        outcomes = []
        for new in possible_hides(lines):
            expected = answers_by_oracle(position + 1, hides + new, offsets)
            outcomes.append((got, index.images) == expected)
            if outcomes[-1]:
                kept = hides + new
        assert any(outcomes), f"kill {kill}: the answers are not the oracle's"
        hides = kept
        index.close()
    assert acknowledged >= KILLS  # every run acknowledged a batch at least
