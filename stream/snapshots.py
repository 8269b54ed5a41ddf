"""The checkpoints and savepoints of a job on disk: the newest usable one, those that failed, those that can be removed.

A snapshot's `_metadata` begins with a magic number, a version and the checkpoint id (8 bytes), all big-endian. The id
orders checkpoints and savepoints of all jobs, because a job that starts from a snapshot counts on from its id. Times of
files say nothing: copies and backups change them.

    checkpoints/JOB_ID/chk-N, checkpoints/JOB_ID/shared    incremental: several chk-N need one shared file
    savepoints/savepoint-X                                 complete by itself
    restores.json                                          the snapshots that could not be restored
"""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path

from stream.restores import RestoreLog

__all__ = ["SnapshotFolders", "checkpoint_id"]

_HEADER = struct.Struct(">iiq")
_MAGIC = 0x4960672D
_KEPT = 3
"""So many savepoints are kept, and so many checkpoints of a new job must be there before those of older ones go."""


def checkpoint_id(snapshot: Path) -> int | None:
    """The id in a snapshot's metadata; None if the metadata is missing, cut off or something else."""
    try:
        with (snapshot / "_metadata").open("rb") as file:
            head = file.read(_HEADER.size)
            more = file.read(1)
    except OSError:
        return None
    if len(head) < _HEADER.size or not more:
        return None
    magic, _, number = _HEADER.unpack(head)
    return int(number) if magic == _MAGIC else None


@dataclass(frozen=True, slots=True)
class SnapshotFolders:
    """Where one signal's job keeps its snapshots."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Flink writes `JOB_ID/chk-N` here."""
        return self.root / "checkpoints"

    @property
    def savepoints(self) -> Path:
        """Flink writes `savepoint-X` here."""
        return self.root / "savepoints"

    @property
    def restores(self) -> RestoreLog:
        """Which snapshots could not be restored."""
        return RestoreLog(self.root / "restores.json")

    def newest(self) -> Path | None:
        """The newest snapshot whose metadata is whole, and that has not failed; None if there is none."""
        rejected = self.restores.rejected()
        return max((each for each in self._whole() if each not in rejected), key=_order, default=None)

    def reject_all(self) -> None:
        """Gives up all snapshots. A job that starts without one counts from 1 again, below the ids of these."""
        self.restores.reject(self._whole())

    def prune(self, job_id: str) -> list[Path]:
        """Removes snapshots that are not needed any more; returns them.

        Checkpoints of earlier jobs go once the job `job_id` has three of its own, so there is always an older one to go
        back to. (A job that starts from a snapshot makes its first checkpoint full, so it needs no older files.) A
        savepoint goes once there are three newer ones.
        """
        own = self.checkpoints / job_id
        savepoints = sorted((each for each in self._whole() if each.parent == self.savepoints), key=_order)
        old = savepoints[:-_KEPT]
        if sum(each.parent == own for each in self._whole()) >= _KEPT:
            old += [each for each in self.checkpoints.glob("*") if each != own]
        for each in old:
            shutil.rmtree(each, ignore_errors=True)
        if old:
            self.restores.forget_missing()
        return old

    def _whole(self) -> list[Path]:
        found = [*self.checkpoints.glob("*/chk-*"), *self.savepoints.glob("*")]
        return [each for each in found if checkpoint_id(each) is not None]


def _order(snapshot: Path) -> tuple[int, str]:
    number = checkpoint_id(snapshot)
    return (-1 if number is None else number, str(snapshot))
