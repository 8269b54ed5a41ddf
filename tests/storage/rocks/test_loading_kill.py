"""kill -9 of a process that loads, at random moments: the next one goes on, and the content is the same in the end."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from storage.rocks.store import RocksStore
from storage.verify import verify
from tests.support.loadable import LOADED_LOG, content_of, random_rows, write_manifest
from tests.support.store_writer import SMALL

ROOT = Path(__file__).parents[3]


def start(store: Path, root: Path, manifest_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.store_loader", str(store), str(root), manifest_id]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_ten_kills_change_nothing(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "old", random_rows(5, 4_000), per_file=900)
    whole = start(tmp_path / "whole", tmp_path / "old", manifest.id)
    assert [said(whole), said(whole)] == ["begun", "ready"]
    assert whole.wait() == 0
    dice, killed = random.Random(7), 0
    while True:
        process = start(tmp_path / "killed", tmp_path / "old", manifest.id)
        if killed != 3:  # the fourth is killed while it opens the store
            assert said(process) == "begun"
        if killed == 10:
            assert said(process) == "ready"
            assert process.wait() == 0
            break
        time.sleep(dice.uniform(0.0, 0.3))
        process.kill()
        process.wait()
        killed += 1
    contents = []
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        with closing(RocksStore(folder, "photos", SMALL)) as store:
            assert store.state().images == 0
            store.swap(LOADED_LOG)
        contents.append(content_of(folder))
    assert contents[0] == contents[1]
    with closing(RocksStore(tmp_path / "killed", "photos", SMALL)) as store, store.snapshot() as view:
        assert view.state().images == 4_000
        assert [progress.problems for progress in verify(view)][-1] == ()
