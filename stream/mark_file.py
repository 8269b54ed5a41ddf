"""The file of read marks: `read-marks` in the folder of a signal's job.

Two lines, UTF-8:

    neardup-read-marks 1 CRC     the format, its version, and CRC-32C of the second line in eight hex digits
    {"sets": [...], "lost": {...}, "rewinds": 0}

Sets are in the order in which they were taken. `lost` counts accepted losses by topic, `rewinds` how often a log was
not the one that was read. The file is replaced as a whole, so a power cut leaves the old one or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crc32c import crc32c

from core.errors import BadInputError
from core.files import write_bytes
from stream.read_marks import MarkedRecord, MarkSet, ReadMark, TopicMarks

__all__ = ["MarkBook", "decode_book", "encode_book", "read_book", "write_book"]

_NAME, _VERSION = "neardup-read-marks", 1

KEPT_SETS = 20
"""Sets that are kept, for checkpoints that are older than the newest."""


@dataclass(frozen=True, slots=True)
class MarkBook:
    """All that the file holds."""

    sets: tuple[MarkSet, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    rewinds: int = 0

    @property
    def newest(self) -> MarkSet | None:
        """The set that was taken last."""
        return self.sets[-1] if self.sets else None

    def with_set(self, marks: MarkSet) -> MarkBook:
        """With one set more; the oldest is dropped if there are too many."""
        return replace(self, sets=(*self.sets, marks)[-KEPT_SETS:])

    def with_newest(self, marks: MarkSet) -> MarkBook:
        """With another newest set."""
        return replace(self, sets=(*self.sets[:-1], marks))

    def fitting(self, snapshot: Path | None) -> MarkSet | None:
        """The newest marks that a snapshot's join state covers; None if none is known to.

        Args:
            snapshot: The folder of a checkpoint, `JOB_ID/chk-N`, or of a savepoint.
        """
        if snapshot is None:
            return None
        kind, _, number = snapshot.name.partition("-")
        if kind != "chk" or not number.isdigit():
            return next((each for each in reversed(self.sets) if each.savepoint == snapshot.name), None)
        job_id, checkpoint = snapshot.parent.name, int(number)
        return next(
            (each for each in reversed(self.sets) if each.job_id == job_id and each.checkpoint <= checkpoint), None
        )


def read_book(file: Path) -> MarkBook:
    """The content of the file; an empty book if there is none.

    Raises:
        BadInputError: The file is damaged, or of a newer version.
    """
    try:
        return decode_book(file.read_bytes())
    except FileNotFoundError:
        return MarkBook()


def write_book(file: Path, book: MarkBook) -> None:
    """Replaces the file, durably. Its folder must exist."""
    write_bytes(file, encode_book(book))


def encode_book(book: MarkBook) -> bytes:
    """The bytes of the file."""
    line = json.dumps(asdict(book), separators=(",", ":"), sort_keys=True).encode("ascii")
    return b"%s %d %08x\n%s\n" % (_NAME.encode(), _VERSION, crc32c(line), line)


def decode_book(raw: bytes) -> MarkBook:
    """The book that these bytes hold.

    Raises:
        BadInputError: They are damaged, or of another version.
    """
    head, _, rest = raw.partition(b"\n")
    line = rest.rstrip(b"\n")
    words = head.decode("ascii", "replace").split(" ")
    if len(words) != 3 or words[0] != _NAME:
        raise BadInputError("not a file of read marks")
    if words[1] != str(_VERSION):
        raise BadInputError(f"read marks of version {words[1]}, this release reads version {_VERSION}")
    if words[2] != f"{crc32c(line):08x}":
        raise BadInputError(f"read marks with checksum {crc32c(line):08x}, the file says {words[2]}")
    values = json.loads(line)
    return MarkBook(tuple(_set(each) for each in values["sets"]), dict(values["lost"]), int(values["rewinds"]))


def _set(values: dict[str, Any]) -> MarkSet:
    topics = {
        name: TopicMarks(topic["topic_id"], {int(part): _mark(mark) for part, mark in topic["partitions"].items()})
        for name, topic in values["topics"].items()
    }
    return MarkSet(**{**values, "topics": topics})


def _mark(values: dict[str, Any]) -> ReadMark:
    record = values["record"]
    return ReadMark(**{**values, "record": None if record is None else MarkedRecord(**record)})
