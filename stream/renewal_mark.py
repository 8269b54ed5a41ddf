"""A mark beside the job's snapshots: the log was renewed, so the next job reads embeddings again.

The renewal gives up all snapshots. The join remembers which pairs it has sent, so with its old state it would not send
again what was lost with the old log. The mark stays until a snapshot of a job after the renewal is there. So a
submission that fails, or a job that dies before its first checkpoint, changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.checked_json import read_checked, write_checked
from core.errors import ServiceError

__all__ = ["RenewalMark"]

_NAME = "renewed.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class RenewalMark:
    """What the next job must do."""

    read_again_ms: int
    """What arrived after this time (ms since the epoch), less the join's timeout, is read again."""

    def write(self, folder: Path) -> None:
        """Leaves the mark in a job's folder, durably."""
        write_checked(folder / _NAME, _FORMAT, {"read_again_ms": self.read_again_ms})

    @classmethod
    def settle(cls, folder: Path, snapshot: Path | None) -> RenewalMark | None:
        """The mark of a job's folder, for a job that resumes from `snapshot`: if there is one, the mark is removed.

        Raises:
            ServiceError: The mark cannot be read.
        """
        if snapshot is None:
            return cls._read(folder)
        (folder / _NAME).unlink(missing_ok=True)
        return None

    @classmethod
    def is_damaged(cls, folder: Path) -> bool:
        """Whether there is a mark that cannot be read. Another renewal then writes it anew."""
        try:
            cls._read(folder)
        except ServiceError:
            return True
        return False

    @classmethod
    def _read(cls, folder: Path) -> RenewalMark | None:
        file = folder / _NAME
        try:
            return cls(int(read_checked(file).body["read_again_ms"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"{file} cannot be read ({error}): run `neardup log renew` again") from error
