"""A process that writes seeded decisions to a store on disk and says what was acknowledged, until it is killed.

    python -m tests.support.store_writer FOLDER SEED COUNT [LIMIT_BYTES]

Prints a line `offset N` after each acknowledged batch. With a limit no file may grow beyond it at first: the disk seems
full, a line `full` follows, the limit is lifted, and it goes on to the end and prints `done`.
"""

from __future__ import annotations

import random
import resource
import sys
from itertools import islice
from pathlib import Path

from core.types import Decision
from storage.errors import DiskFullError
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.model import LOG, StoreModel, seeded_actions

SMALL = RocksOptions(write_buffer_mib=1, total_write_buffer_mib=1, max_wal_mib=1)
"""Buffers so small that files are written and merged all the time."""


def write(folder: Path, seed: int, count: int, limit_bytes: int | None) -> None:
    store = RocksStore(folder, "killed", SMALL)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, unlimited[1]))
    model, actions = StoreModel(), iter(seeded_actions(seed, count))
    sizes = random.Random(str(folder))
    for action in islice(actions, store.position().offset + 1):
        model.decide(action)
    batch: list[Decision] = []
    while batch := batch or [model.decide(action) for action in islice(actions, sizes.randrange(1, 65))]:
        try:
            position = store.apply(LOG, batch, batch[0].offset - 1, 0)
        except DiskFullError:
            assert store.position().offset == batch[0].offset - 1
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            say("full")
            continue
        batch = []
        say(f"offset {position.offset}")
        store.set_published(store.state().history_number)
    store.close()
    say("done")


def say(line: str) -> None:
    """A line that has left the process when this returns."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
