"""The simulated power cut, on files of a process that syncs some of what it writes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from core.files import write_text
from tests.support.damage import PAGE_BYTES
from tests.support.power_cut import DurableFiles, has_compiler

pytestmark = pytest.mark.skipif(not has_compiler(), reason="the recorder needs a C compiler")

_WRITER = """
import os, sys
from pathlib import Path
folder = Path(sys.argv[1])
with (folder / "log").open("ab") as log:
    log.write(b"durable"); log.flush(); os.fsync(log.fileno())
    log.write(b" and not"); log.flush()
(folder / "never-synced").write_bytes(b"gone")
reused = folder / "reused"
with reused.open("wb") as file:
    file.write(b"x" * 100); file.flush(); os.fdatasync(file.fileno())
number = reused.stat().st_ino
reused.unlink()
for name in ("a", "b", "c"):
    (folder / name).write_bytes(b"new file, perhaps of the same inode")
"""


def test_a_file_keeps_what_its_last_sync_made_durable(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "older").write_bytes(b"from before")
    durable = DurableFiles(data, tmp_path / "scratch")
    with durable.recorded():
        subprocess.run([sys.executable, "-c", _WRITER, str(data)], check=True)
    assert durable.cut() == 5
    left = {file.name: file.read_bytes() for file in data.iterdir()}
    assert left == {"older": b"from before", "log": b"durable", "never-synced": b"", "a": b"", "b": b"", "c": b""}
    assert durable.cut() == 0


def test_what_is_replaced_durably_survives(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_text(data / "kept", "old")
    durable = DurableFiles(data, tmp_path / "scratch")
    code = (
        f"from pathlib import Path; from core.files import write_text; write_text(Path({str(data / 'kept')!r}), 'new')"
    )
    with durable.recorded():
        subprocess.run([sys.executable, "-c", code], check=True)
    assert durable.cut() == 0
    assert (data / "kept").read_text(encoding="utf-8") == "new"


def test_a_cut_can_be_confined_to_one_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    durable = DurableFiles(data, tmp_path / "scratch")
    with durable.recorded():
        for name in ("broker", "store"):
            (data / name).mkdir(parents=True)
            (data / name / "file").write_bytes(b"bytes")
    assert durable.cut(data / "broker") == 1
    assert (data / "store" / "file").read_bytes() == b"bytes"


def test_pages_after_the_last_sync_can_read_as_zeros(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    durable = DurableFiles(data, tmp_path / "scratch")
    kept, written = b"k" * (PAGE_BYTES + 100), b"w" * (9 * PAGE_BYTES + 5)
    code = f"""
import os
from pathlib import Path
with Path({str(data / "log")!r}).open("wb") as log:
    log.write({kept!r}); log.flush(); os.fsync(log.fileno())
    log.write({written!r})
"""
    with durable.recorded():
        subprocess.run([sys.executable, "-c", code], check=True)
    log = data / "log"
    whole, patterns = log.read_bytes(), set()
    for seed in range(20):
        log.write_bytes(whole)
        assert durable.cut(zeroing=random.Random(seed)) == 1
        content = log.read_bytes()
        assert len(content) == len(whole)
        assert content.startswith(kept)
        starts = [len(kept), *range(2 * PAGE_BYTES, len(whole), PAGE_BYTES)]
        pages = [content[one:other] for one, other in zip(starts, [*starts[1:], len(whole)], strict=True)]
        assert all(page in (b"w" * len(page), bytes(len(page))) for page in pages)
        patterns.add(tuple(page[0] == 0 for page in pages))
    assert len(patterns) > 10  # other pages each time
    assert all(any(pattern) for pattern in patterns)
