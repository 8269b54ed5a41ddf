"""Checks the logs of a database before RocksDB reads them, and cuts off what a power cut left of the last write.

Each write is synced before the next one begins. So a power cut can damage only the last record of the newest log: some
sectors of it were never written and read as zeros. That write was not acknowledged, but RocksDB refuses the log, or
skips the zeros without a word. Here the record is cut off, with a warning.

Any other damage is refused: an intact record follows, records are missing between two others, or no sector is lost. A
log whose file ends within a record is left to RocksDB, which drops that record.

The manifest is different in one way: several records, one for each family that was flushed, are synced together. A
power cut may damage all of them. It may also lose some and keep later ones. Then the rest of a sector is zeros from the
first byte of a record on: what the sync before wrote in front of it is there. A sector that a disk loses later is zeros
from its own first byte on. So if an intact record follows such a sector, it is refused: what was lost may have been
acknowledged long ago, and RocksDB has removed the logs that held it too.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from storage.errors import CorruptedError
from storage.rocks.record_log import LogContent, begins_later, lost_sectors, read_log, was_never_written

__all__ = ["cut_torn_ends"]

log = logging.getLogger(__name__)


def cut_torn_ends(folder: Path) -> None:
    """Cuts off what a power cut left of the last write to a closed database.

    Raises:
        CorruptedError: A log is damaged in another way. No file was changed.
    """
    try:
        ends = [_torn_manifest(folder), *_torn_logs(folder)]
    except FileNotFoundError:  # another process has the database open, which RocksDB says
        return
    for end in ends:
        if end is not None:
            end.cut()


@dataclass(frozen=True, slots=True)
class _TornEnd:
    """What follows the last whole record of a log."""

    path: Path
    start: int
    size: int

    def cut(self) -> None:
        with self.path.open("r+b") as file:
            file.truncate(self.start)
            os.fsync(file.fileno())
        log.warning(
            "%s: cut off the last %d bytes, from byte %d on: a power cut left a write unfinished that was not "
            "acknowledged",
            self.path,
            self.size,
            self.start,
        )


def _torn_logs(folder: Path) -> list[_TornEnd]:
    expected: int | None = None
    torn: list[_TornEnd] = []
    unexplained: CorruptedError | None = None
    for path in sorted((one for one in folder.glob("*.log") if one.stem.isdecimal()), key=lambda one: int(one.stem)):
        data = path.read_bytes()
        content = read_log(data)
        expected = _check_numbers(path, content, expected)
        if content.records:
            # They go on where the logs before end: what is damaged there was dropped at an earlier start.
            unexplained = None
        if content.damaged_at is not None:
            _refuse_damage_before_a_record(path, data, content, expected)
            torn.append(_TornEnd(path, content.end, len(data) - content.end))
            unexplained = unexplained or _unexplained(path, data, content)
    if unexplained is not None:
        raise unexplained
    return torn


def _torn_manifest(folder: Path) -> _TornEnd | None:
    path = _manifest(folder)
    if path is None:
        return None
    data = path.read_bytes()
    content = read_log(data)
    if content.damaged_at is None or not content.records:  # without any record RocksDB says what is wrong
        return None
    if not was_never_written(data, content.damaged_at):
        _refuse_damage_before_a_record(path, data, content, None, synced_together=True)
    unexplained = _unexplained(path, data, content)
    if unexplained is not None:
        raise unexplained
    return _TornEnd(path, content.end, len(data) - content.end)


def _check_numbers(path: Path, content: LogContent, expected: int | None) -> int | None:
    """The sequence number after those of a log."""
    for record in content.records:
        if expected is not None and record.sequence != expected:
            raise CorruptedError(
                f"{path}: the record that ends at byte {record.end} has the sequence number {record.sequence}, expected"
                f" {expected}: records before it are lost"
            )
        expected = record.sequence + record.count
    return expected


def _refuse_damage_before_a_record(
    path: Path, data: bytes, content: LogContent, expected: int | None, *, synced_together: bool = False
) -> None:
    if content.damaged_at is None:
        return
    later = begins_later(data, content.damaged_at, expected, synced_together=synced_together)
    if later is not None:
        raise CorruptedError(
            f"{path} is damaged at byte {content.damaged_at}, and intact again from byte {later}: what was written "
            "there was acknowledged"
        )


def _unexplained(path: Path, data: bytes, content: LogContent) -> CorruptedError | None:
    if lost_sectors(data, content.end):
        return None
    return CorruptedError(
        f"{path} is damaged at byte {content.damaged_at}, and not by a power cut, which leaves sectors of zeros"
    )


def _manifest(folder: Path) -> Path | None:
    """The manifest in use; None: there is none, or `CURRENT` is damaged, of which RocksDB tells."""
    try:
        name = (folder / "CURRENT").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return folder / name if name.startswith("MANIFEST-") else None
