"""The errors of an index folder; each message says what to do."""

from __future__ import annotations

from core.errors import NeardupError, UnavailableError

__all__ = ["IndexBrokenError", "IndexDamagedError", "IndexLockedError"]


class IndexDamagedError(NeardupError):
    """The files are damaged in a way that no crash explains: restore the folder, or build the index again."""


class IndexLockedError(NeardupError):
    """Another process has the folder open: stop it first."""


class IndexBrokenError(UnavailableError):
    """A write reached the log and could not be applied in memory: the index must be opened again."""
