"""A program that writes indexes until it is killed, saying what was acknowledged.

Each line on stdin, "FOLDER SEED", starts a process of its own that writes for ever. Record i of the log follows from i
alone; the sizes of the batches and the hides from the seed. Lines on stdout:

    writer PID             it has started
    ack OFFSET             all records up to it were acknowledged
    hiding PLACE OFFSET    the image at a place is about to be hidden, after that offset
    hidden PLACE OFFSET    that was acknowledged
    dead                   it was killed
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import numpy as np

from core.types import ImageId
from search.index.engine import SegmentedIndex
from search.index.interface import Record, Skip
from search.index.opening import warm_up
from search.ranking import Ranking
from tests.search.index.index_oracle import LOG, delete, index_settings, insert, replay

SETTINGS = index_settings(ranking=Ranking(6, depth=40), sync=True, seal_entries=50, merge_fan=2)


@cache
def record(offset: int) -> Record:
    """The record of the log at an offset: versions and repeats are frequent, and new images go on coming."""
    random = np.random.RandomState(offset)
    image_id, version = f"image-{random.randint(0, 400 + offset // 4)}", int(random.randint(0, 3))
    kind = random.randint(0, 30)
    if kind == 0:
        return Skip(offset, offset + 1, ImageId(image_id), version)
    if kind == 1:
        return delete(offset, image_id, version if offset % 2 else None, forget=offset % 3 == 0)
    if kind <= 4:
        return replay(offset, image_id, version if kind == 2 else None, random.randint(0, 4, 4).tolist())
    return insert(offset, image_id, version, random.randint(0, 4, 4).tolist())


def say(*words: object) -> None:
    """One line on stdout, at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def write(folder: Path, seed: int) -> None:
    """Writes for ever."""
    random = np.random.RandomState(seed)
    index = SegmentedIndex(folder, SETTINGS)
    while True:
        first = index.position.offset + 1
        index.insert_and_search(LOG, [record(first + row) for row in range(random.randint(1, 40))])
        position = index.position.offset
        say("ack", position)
        if random.randint(0, 4) == 0:
            place = int(random.randint(0, position + 1))
            say("hiding", place, position)
            index.hide(place)
            say("hidden", place, position)


def main() -> None:
    """Starts one writer after the other; starting them anew would take a second each."""
    warm_up()
    for line in sys.stdin:
        folder, seed = line.split()
        child = os.fork()
        if child == 0:
            write(Path(folder), int(seed))
        say("writer", child)
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
