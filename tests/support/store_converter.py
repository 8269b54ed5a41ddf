"""A process that gives a store other codes, a few images at a time, and says how far it is, until it is killed.

    python -m tests.support.store_converter FOLDER

Prints `part` after each part, `naming` before the new database gets its name, `named` after it, and `done`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from storage import new_codes
from storage.records import EmbeddingRecord
from storage.rocks import converting
from storage.rocks.converting import CodeChange, convert_codes
from storage.rocks.options import RocksOptions

BEFORE, AFTER = "photos; codes old", "photos; codes new"

SMALL = RocksOptions(write_buffer_mib=1, total_write_buffer_mib=1, max_wal_mib=1)


def new_code(record: EmbeddingRecord) -> bytes:
    """A code that depends on both vectors."""
    return b"new " + record.search_vector[::-1] + record.score_vector


def recode(records: Sequence[EmbeddingRecord]) -> Sequence[bytes]:
    return [new_code(record) for record in records]


CHANGE = CodeChange(BEFORE, AFTER, 64, recode)


def convert(folder: Path) -> None:
    """Converts, with a pause wherever a kill is interesting."""
    new_codes.BATCH = converting._CLUSTERS_AT_ONCE = 4
    named = converting.write_marker

    def write_marker(*arguments: str) -> None:
        say("naming")
        named(*arguments)  # type: ignore[arg-type]
        say("named")

    converting.write_marker = write_marker  # type: ignore[assignment]
    convert_codes(folder, CHANGE, lambda done, total: say("part"), SMALL)
    say("done")


def say(word: str) -> None:
    """A line that has left the process when this returns; then a while in which a kill hits."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    time.sleep(0.005)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
