"""kill -9 at random moments: what was acknowledged is there, whole batches only, and every answer is the oracle's."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from search.index.engine import SegmentedIndex
from tests.search.index.index_oracle import LOG, Oracle, Plain, plain
from tests.search.index.index_writer import SETTINGS, record

ROOT = Path(__file__).parents[3]
KILLS = 60
"""At least."""

SEGMENTS = 3


@pytest.fixture
def starter() -> Iterator[subprocess.Popen[str]]:
    """The program that starts writers."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.search.index.index_writer"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield program
    program.kill()
    program.wait()
    for pipe in (program.stdin, program.stdout):
        assert pipe is not None
        pipe.close()


def write_until_killed(starter: subprocess.Popen[str], folder: Path, seed: int, seconds: float) -> list[list[str]]:
    """Lets a writer run for so long behind its first acknowledgement; what it said."""
    assert starter.stdin is not None
    assert starter.stdout is not None
    starter.stdin.write(f"{folder} {seed}\n")
    starter.stdin.flush()
    lines: list[list[str]] = []
    while not lines or lines[-1][0] != "ack":
        lines.append(starter.stdout.readline().split())
        assert lines[-1], "the writer did not start"
    (pid,) = [int(line[1]) for line in lines if line[0] == "writer"] or [
        int(starter.stdout.readline().split()[1])  # its first acknowledgement came sooner
    ]
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    while lines[-1] != ["dead"]:
        lines.append(starter.stdout.readline().split())
    return [line for line in lines if line[0] in ("ack", "hiding", "hidden")]


def possible_hides(lines: list[list[str]]) -> list[list[tuple[int, int]]]:
    """The hides that must be there, with and without the one that may be."""
    done = [(int(line[1]), int(line[2])) for line in lines if line[0] == "hidden"]
    last = lines[-1]
    return [done] if last[0] != "hiding" else [done, [*done, (int(last[1]), int(last[2]))]]


def answers_by_oracle(applied: int, hides: list[tuple[int, int]], offsets: list[int]) -> tuple[list[Plain], int]:
    oracle = Oracle(SETTINGS, [record(offset) for offset in range(applied)], hides)
    return [oracle.answer(record(offset)) for offset in offsets], oracle.images()


def test_acknowledged_records_survive_kill_9(tmp_path: Path, starter: subprocess.Popen[str]) -> None:
    moments = random.Random(4711)
    folder = tmp_path / "index"
    hides: list[tuple[int, int]] = []
    acknowledged, segments = -1, 0
    for kill in range(5 * KILLS):
        if kill >= KILLS and segments >= SEGMENTS:
            break
        # On a busy machine no tail is sealed in so short a time.
        most = 0.08 if kill < KILLS else 0.5
        lines = write_until_killed(starter, folder, kill, moments.uniform(0.0, most))
        acknowledged = max(acknowledged, *(int(line[1]) for line in lines if line[0] == "ack"))
        index = SegmentedIndex(folder, SETTINGS, background=False)
        position = index.position.offset
        assert position >= acknowledged
        assert index.position.checksum == record(position).checksum
        offsets = sorted({*moments.sample(range(position + 1), min(5, position + 1)), position})
        got = [plain(answer) for at in offsets for answer in index.insert_and_search(LOG, [record(at)])]
        kept = None
        for new in possible_hides(lines):
            if (got, index.images) == answers_by_oracle(position + 1, hides + new, offsets):
                kept = hides + new
        assert kept is not None, f"kill {kill}: the answers are not the oracle's"
        hides = kept
        segments = max(segments, index.stats().segments)
        index.close()
    assert acknowledged >= KILLS  # every run acknowledged a batch at least
    assert segments >= SEGMENTS  # and kills met sealed segments
