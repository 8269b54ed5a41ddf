"""kill -9 of a process that loads, at random moments: the next one goes on, and the content is the same in the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storage.rocks.store import RocksStore
from storage.verify import verify
from tests.support.loadable import LOADED_LOG, content_of, random_rows, write_manifest
from tests.support.store_writer import SMALL

ROOT = Path(__file__).parents[3]


def run(store: Path, root: Path, manifest_id: str, *options: object) -> tuple[list[str], int]:
    """What a process says that loads, and how it ended."""
    command = [sys.executable, "-m", "tests.support.store_loader", str(store), str(root), manifest_id]
    done = subprocess.run(command + list(map(str, options)), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.split(), done.returncode


def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "old", random_rows(5, 3_000), per_file=900)
    words, code = run(tmp_path / "whole", tmp_path / "old", manifest.id)
    assert (words[-1], code) == ("ready", 0)
    dice, seen, killed = random.Random(7), set[str](), 0
    while killed < 10:
        steps, after_ms = dice.randrange(5, 30), dice.randrange(20)
        words, code = run(tmp_path / "killed", tmp_path / "old", manifest.id, "--kill", steps, after_ms)
        killed += 1
        if code == 0:  # it was ready before
            break
        assert code == -signal.SIGKILL
        seen.update(words)
    assert {"identities:", "rows", "clusters:"} <= seen
    words, code = run(tmp_path / "killed", tmp_path / "old", manifest.id)
    assert (words[-1], code) == ("ready", 0)
    contents = []
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        with closing(RocksStore(folder, "photos", SMALL)) as store:
            assert store.state().images == 0
            store.swap(LOADED_LOG)
        contents.append(content_of(folder))
    assert contents[0] == contents[1]
    with closing(RocksStore(tmp_path / "killed", "photos", SMALL)) as store, store.snapshot() as view:
        assert view.state().images == 3_000
        assert [progress.problems for progress in verify(view)][-1] == ()


@pytest.mark.parametrize("limit_bytes", [8_192, 20_000, 300_000])
def test_a_full_disk_is_waited_for(tmp_path: Path, limit_bytes: int) -> None:
    """The limit is met by the notes of identities, by tables, or by what RocksDB merges."""
    manifest = write_manifest(tmp_path / "old", random_rows(5, 4_000), per_file=900)
    words, code = run(tmp_path / "store", tmp_path / "old", manifest.id, "--limit", limit_bytes)
    assert code == 0
    assert "waiting" in words
    assert words[-1] == "ready"
    with closing(RocksStore(tmp_path / "store", "photos", SMALL)) as store:
        store.swap(LOADED_LOG)
    with closing(RocksStore(tmp_path / "store", "photos", SMALL)) as store, store.snapshot() as view:
        assert view.state().images == 4_000
        assert [progress.problems for progress in verify(view)][-1] == ()
