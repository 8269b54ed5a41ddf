"""What can be wrong with the folder of a term index; each message says what to do."""

from __future__ import annotations

from core.errors import NeardupError, UnavailableError

__all__ = ["IndexBrokenError", "IndexDamagedError", "IndexLockedError"]


class IndexDamagedError(NeardupError):
    """The files of the index are damaged where no crash can damage them: restore the folder or build it anew."""


class IndexLockedError(NeardupError):
    """Another process has the folder open: stop it first."""


class IndexBrokenError(UnavailableError):
    """What was written could not be brought into memory, so the two differ: nothing but opening it anew helps."""
