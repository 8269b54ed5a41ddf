"""Snapshots that a job could not be restored from, in a file beside them. After two failures one is not used again.

Flink restarts a job from the same snapshot for ever, whatever the reason of the failure is. So failures are counted
here, and the job's runner takes the next older snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from core.checked_json import read_checked, write_checked

__all__ = ["RestoreLog", "fails_again", "is_failed_restore"]

_FORMAT = 1
_TRIES = 2

_SOON_MS = 600_000

_SIGNS = (
    "Could not restore",
    "Failed to restore",
    "StateMigrationException",
    "StreamOperatorStateContext",
    "rollback to checkpoint/savepoint",
    "Could not load checkpoint",
    "Could not read checkpoint metadata",
    "Cannot find checkpoint or savepoint",
    "Failed to load checkpoint",
    "loadCheckpointMetadata",
    "JobInitializationException",
    "StateDamagedError",
    "RocksDBException",
)
"""Words in the stack traces of tasks and jobs that cannot take up their state.

A job that cannot be initialised counts too: metadata that are cut in the middle end in a bare EOFException there.
"""

_DISK_FULL = "No space left on device"
"""Then the snapshot is not to blame."""


def is_failed_restore(failure: str) -> bool:
    """Whether a failure's stack trace says that a state could not be restored."""
    return any(sign in failure for sign in _SIGNS) and _DISK_FULL not in failure


def fails_again(times_ms: Sequence[int]) -> bool:
    """Whether a job failed on its state twice within ten minutes.

    State is read when it is needed. So a job may complete checkpoints, which carry the damage on, before it reads what
    is damaged. Each restart then begins at another snapshot, and none of them fails twice.
    """
    return any(after - before <= _SOON_MS for before, after in pairwise(sorted(times_ms)))


@dataclass(frozen=True, slots=True)
class RestoreLog:
    """The file with the failures of each snapshot."""

    file: Path

    def note(self, snapshot: Path, failures: Iterable[tuple[str, int]]) -> bool:
        """Counts failures by the job and the time (ms) that they came from, each once.

        Returns:
            Whether the snapshot is rejected now.
        """
        content = self._read()
        known = set(content.get(str(snapshot), ()))
        known |= {f"{job_id}@{time_ms}" for job_id, time_ms in failures}
        self._write({**content, str(snapshot): sorted(known)})
        return len(known) >= _TRIES

    def reject(self, snapshots: Iterable[Path]) -> None:
        """Rejects snapshots without a failure."""
        gone = {str(each): [f"given up {number}" for number in range(_TRIES)] for each in snapshots}
        if gone:
            self._write({**self._read(), **gone})

    def rejected(self) -> set[Path]:
        """The snapshots that failed twice."""
        return {Path(name) for name, failures in self._read().items() if len(failures) >= _TRIES}

    def forget_missing(self) -> None:
        """Drops what is noted of snapshots that are gone."""
        self._write({name: failures for name, failures in self._read().items() if Path(name).exists()})

    def _read(self) -> dict[str, list[str]]:
        try:
            return dict(read_checked(self.file).body["failures"])
        except (OSError, ValueError, KeyError, TypeError):
            # Without the file each snapshot is tried again, and counted again.
            return {}

    def _write(self, content: Mapping[str, list[str]]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_checked(self.file, _FORMAT, {"failures": content})
