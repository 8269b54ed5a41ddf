"""The checkpoints and savepoints of a job on disk: the newest complete one, and those that can be removed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SnapshotFolders"]


@dataclass(frozen=True, slots=True)
class SnapshotFolders:
    """Where one signal's job keeps its snapshots.

    A snapshot is complete when its `_metadata` is there: Flink writes that file last.
    """

    root: Path

    @property
    def checkpoints(self) -> Path:
        """Flink writes `JOB_ID/chk-N` here."""
        return self.root / "checkpoints"

    @property
    def savepoints(self) -> Path:
        """Flink writes `savepoint-X` here."""
        return self.root / "savepoints"

    def newest(self) -> Path | None:
        """The newest complete checkpoint or savepoint."""
        complete = [*self.checkpoints.glob("*/chk-*/_metadata"), *self.savepoints.glob("*/_metadata")]
        return max(complete, key=lambda file: file.stat().st_mtime_ns).parent if complete else None

    def prune(self, job_id: str) -> list[Path]:
        """Removes the snapshots of earlier jobs, once the job `job_id` has a complete checkpoint of its own.

        A job that starts from a snapshot makes its first checkpoint full, so it needs no older files.
        """
        own = self.checkpoints / job_id
        complete = [file.stat().st_mtime_ns for file in own.glob("chk-*/_metadata")]
        if not complete:
            return []
        old = [each for each in self.checkpoints.glob("*") if each != own]
        old += [file.parent for file in self.savepoints.glob("*/_metadata") if file.stat().st_mtime_ns < min(complete)]
        for each in old:
            shutil.rmtree(each, ignore_errors=True)
        return old
