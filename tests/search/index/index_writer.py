"""A program that writes an index until it is killed, saying what was acknowledged: `index_writer.py FOLDER SEED`.

Record i of the log follows from i alone; the sizes of the batches and the hides from the seed. Lines on stdout:

    ack OFFSET             all records up to it were acknowledged
    hiding PLACE OFFSET    the image at a place is about to be hidden, after that offset
    hidden PLACE OFFSET    that was acknowledged
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from search.index.chained import ChainedIndex
from search.index.interface import Record, Skip
from search.types import ImageId
from tests.search.index.index_oracle import LOG, index_settings, insert

SETTINGS = index_settings(candidates=6, sync=True)


def record(offset: int) -> Record:
    """The record of the log at an offset: few images, so that versions and repeats are frequent."""
    random = np.random.RandomState(offset)
    image_id, version = f"image-{random.randint(0, 400)}", int(random.randint(0, 3))
    if random.randint(0, 20) == 0:
        return Skip(offset, offset + 1, ImageId(image_id), version)
    return insert(offset, image_id, version, random.randint(0, 4, 4).tolist())


def say(*words: object) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(folder: Path, seed: int) -> None:
    """Writes for ever."""
    random = np.random.RandomState(seed)
    index = ChainedIndex(folder, SETTINGS)
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


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
