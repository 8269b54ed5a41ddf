"""The file of read marks: `read-marks` in the folder of a signal's job.

    {"sets": [...], "pending": {...}, "lost": {...}, "rewinds": 0}

Sets are in the order in which they were taken: the newest ones, and some older ones (`stream.late_halves`). `pending`
is the set of a job that is about to be submitted; it becomes the newest set once Flink is known to have the job. `lost`
counts accepted losses by topic, `rewinds` how often a log was not the one that was read. The file has a format and a
checksum (`core.checked_json`), and is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from core.checked_json import read_checked, write_checked
from core.errors import BadInputError
from stream.late_halves import following, thinned
from stream.read_marks import MarkedRecord, MarkSet, ReadMark, TopicMarks

__all__ = ["MarkBook", "read_book", "write_book"]

_FORMAT = 1

KEPT_SETS = 20
"""So many of the newest sets are all kept, for checkpoints that are older than the newest."""


@dataclass(frozen=True, slots=True)
class MarkBook:
    """All that the file holds."""

    sets: tuple[MarkSet, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)
    rewinds: int = 0
    pending: MarkSet | None = None

    @property
    def newest(self) -> MarkSet | None:
        """The set that was taken last."""
        return self.sets[-1] if self.sets else None

    def with_set(self, marks: MarkSet) -> MarkBook:
        """With one set more; older ones are thinned out."""
        sets = (*self.sets, following(self.newest, marks))
        return replace(self, sets=(*thinned(sets[:-KEPT_SETS]), *sets[-KEPT_SETS:]))

    def begun(self, job_id: str) -> MarkBook:
        """With the pending set as the newest one, if it is of this job."""
        if self.pending is None or self.pending.job_id != job_id:
            return self
        return replace(self.with_set(self.pending), pending=None)

    def with_newest(self, marks: MarkSet) -> MarkBook:
        """With another newest set."""
        before = self.sets[-2] if len(self.sets) > 1 else None
        return replace(self, sets=(*self.sets[:-1], following(before, marks)))

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
        content = read_checked(file)
        if not content.checked or content.format != _FORMAT:
            raise BadInputError(f"read marks of format {content.format}, this release reads format {_FORMAT}")
        values = content.body
        pending = values.get("pending")
        return MarkBook(
            tuple(_set(each) for each in values["sets"]),
            dict(values["lost"]),
            int(values["rewinds"]),
            None if pending is None else _set(pending),
        )
    except FileNotFoundError:
        return MarkBook()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"no file of read marks: {error}") from error


def write_book(file: Path, book: MarkBook) -> None:
    """Replaces the file, durably. Its folder must exist."""
    write_checked(file, _FORMAT, _with_text_keys(asdict(book)))


def _with_text_keys(values: dict[str, Any]) -> dict[str, Any]:
    """With partitions as JSON has them, in their order: the checksum is of sorted keys."""
    for marks in (*values["sets"], *filter(None, [values["pending"]])):
        for topic in marks["topics"].values():
            topic["partitions"] = {str(part): mark for part, mark in topic["partitions"].items()}
    return values


def _set(values: dict[str, Any]) -> MarkSet:
    topics = {
        name: TopicMarks(topic["topic_id"], {int(part): _mark(mark) for part, mark in topic["partitions"].items()})
        for name, topic in values["topics"].items()
    }
    return MarkSet(**{**values, "topics": topics})


def _mark(values: dict[str, Any]) -> ReadMark:
    record = values["record"]
    return ReadMark(**{**values, "record": None if record is None else MarkedRecord(**record)})
