"""A process that loads a store from a manifest, until it is killed.

    python -m tests.support.store_loader STORE FOLDER MANIFEST_ID

Prints `begun` once it loads, and `ready` when the content is whole.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from pathlib import Path

from core.first_loads import LoadRequest, LoadState
from storage.loading import run
from storage.rocks import loader
from storage.rocks.store import RocksStore
from storage.serving.first_loads import FirstLoads
from tests.support.loadable import LOADED_LOG, NAME, STARTED_MS, load_settings
from tests.support.store_writer import SMALL

AT_ONCE, PART_ROWS, CLUSTERS_AT_ONCE = 50, 150, 40
"""So small that a load of some thousand rows has many steps."""


def load(folder: Path, root: Path, manifest_id: str) -> None:
    run.AT_ONCE, loader.PART_ROWS, loader.CLUSTERS_AT_ONCE = AT_ONCE, PART_ROWS, CLUSTERS_AT_ONCE
    with closing(RocksStore(folder, "photos", SMALL)) as store:
        loads = FirstLoads(store, load_settings, lambda: None, now_ms=lambda: STARTED_MS)
        loads.resume()
        loads.load(LoadRequest(str(root), NAME, manifest_id, LOADED_LOG))
        say("begun")
        while (report := loads.report()) is None or report.state is LoadState.LOADING:
            time.sleep(0.01)
        say(report.state)
        loads.stop()


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    load(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
