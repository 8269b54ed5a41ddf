"""Errors of the wiring and the command line; they hang under the root error."""

from __future__ import annotations

from core.errors import NeardupError

__all__ = ["NotFoundError", "NotSoundError"]


class NotFoundError(NeardupError):
    """There is no such image or cluster."""


class NotSoundError(NeardupError):
    """A check found what must not be; the message counts it."""
