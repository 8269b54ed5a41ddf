"""The producer and the consumer of the examples, on the real parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from neardup.events import Assignment
from tests.support.stack import ROOT, Stack

pytestmark = pytest.mark.cluster


def run(name: str, *words: str, folder: Path) -> str:
    """Runs an example as a program, in another folder; what it prints."""
    program = [sys.executable, str(ROOT / "examples" / "extending" / name), *words]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        program, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_image_of_the_producer_is_told_by_the_consumer(stack: Stack, tmp_path: Path) -> None:
    bootstrap = stack.settings.kafka.servers
    prefix = stack.signal.topic("search").removesuffix("embeddings.search")
    run("producer.py", bootstrap, prefix, folder=tmp_path)
    heads = stack.await_heads(["my-first-image"])
    assert heads["my-first-image"] == "my-first-image"
    printed = run("consumer.py", bootstrap, stack.signal.topic("assignments"), folder=tmp_path)
    told = dict(line.rsplit(" ", 1) for line in printed.splitlines())
    assert told["my-first-image"] == "my-first-image"
    changes = [Assignment.from_json(value) for value in stack.records(stack.signal.topic("assignments"))]
    assert told.items() <= {(change.image_id, change.head) for change in changes}
