"""A process that loads a store from a manifest.

    python -m tests.support.store_loader STORE FOLDER MANIFEST_ID [--limit BYTES] [--kill STEPS MS]

Prints `begun`, then a line for each step, and `ready` when the content is whole. With a limit no file may grow beyond
it at first: the disk seems full, a line `waiting` follows, the limit is lifted, and it goes on. With a kill it gets
SIGKILL so many steps and milliseconds later.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from core.first_loads import LoadRequest, LoadState
from storage.loading import run
from storage.rocks import loader
from storage.rocks.store import RocksStore
from storage.serving.first_loads import FirstLoads
from tests.support.loadable import LOADED_LOG, NAME, STARTED_MS, load_settings
from tests.support.store_writer import SMALL, UNLIMITED

AT_ONCE, PART_ROWS, CLUSTERS_AT_ONCE = 50, 150, 40
"""So small that a load of some thousand rows has many steps."""


class TellingLoads(FirstLoads):
    """Tells each step, and may be killed soon after one."""

    kill: tuple[int, int] | None = None

    def did(self, doing: str, rows: int) -> None:
        """See `LoadWatch.did`."""
        super().did(doing, rows)
        say(doing.split()[0])
        if self.kill is None:
            return
        steps, after_ms = self.kill
        self.kill = steps - 1, after_ms
        if steps == 1:
            threading.Timer(after_ms / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()


def load(arguments: argparse.Namespace) -> None:
    run.AT_ONCE, loader.PART_ROWS, loader.CLUSTERS_AT_ONCE = AT_ONCE, PART_ROWS, CLUSTERS_AT_ONCE
    with closing(RocksStore(arguments.store, "photos", SMALL)) as store:
        loads = TellingLoads(store, load_settings, lambda: None, now_ms=lambda: STARTED_MS)
        loads.kill = arguments.kill
        loads.resume()
        if arguments.limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.limit, UNLIMITED[1]))
        loads.load(LoadRequest(str(arguments.folder), NAME, arguments.manifest_id, LOADED_LOG))
        say("begun")
        state = LoadState.LOADING
        while state in (LoadState.LOADING, LoadState.WAITING):
            time.sleep(0.005)
            report = loads.report()
            assert report is not None
            if report.state is not state and report.state is not LoadState.LOADING:
                say(report.state)
            if report.state is LoadState.WAITING:
                resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)
            state = report.state
        loads.stop()


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("manifest_id")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--kill", type=int, nargs=2)
    load(parser.parse_args())
