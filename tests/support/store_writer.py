"""A process that writes seeded decisions to a store on disk and says what was acknowledged, until it is killed.

It sweeps old history meanwhile.

    python -m tests.support.store_writer FOLDER SEED COUNT [LIMIT_BYTES]

Prints a line `offset N` after each acknowledged batch. With a limit no file may grow beyond it at first: the disk seems
full, a line `full` follows, the limit is lifted, and it goes on to the end and prints `done`.
"""

from __future__ import annotations

import random
import resource
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

from storage.errors import DiskFullError
from storage.rocks.options import RocksOptions
from storage.rocks.store import RocksStore
from storage.testing.model import LOG, StoreModel, seeded_actions

T = TypeVar("T")

UNLIMITED = resource.getrlimit(resource.RLIMIT_FSIZE)

SMALL = RocksOptions(write_buffer_mib=1, total_write_buffer_mib=1, max_wal_mib=1)
"""Buffers so small that files are written and merged all the time."""

KEPT = 200
"""History entries that are not swept."""


def write(folder: Path, seed: int, count: int, limit_bytes: int | None) -> None:
    store = RocksStore(folder, "killed", SMALL)
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, UNLIMITED[1]))
    model, actions = StoreModel(), iter(seeded_actions(seed, count))
    sizes = random.Random(str(folder))
    for action in islice(actions, store.position().offset + 1):
        model.decide(action)
    while batch := [model.decide(action) for action in islice(actions, sizes.randrange(1, 65))]:
        position = written(store, partial(store.apply, LOG, batch, batch[0].offset - 1, 0))
        say(f"offset {position.offset}")
        written(store, partial(store.set_published, store.state().history_number))
        written(store, partial(store.sweep_history, store.state().history_number - KEPT, 40))
    store.close()
    say("done")


def written(store: RocksStore, write: Callable[[], T]) -> T:
    """What a write returns; if the disk is full, nothing of it is there, and it is made once more without the limit."""
    before = store.state(), store.published()
    try:
        return write()
    except DiskFullError:
        assert (store.state(), store.published()) == before
        resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)
        say("full")
        return write()


def say(line: str) -> None:
    """A line that has left the process when this returns."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
