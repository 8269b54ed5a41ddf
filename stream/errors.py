"""Errors of the wiring and the command line; they hang under the root error."""

from __future__ import annotations

from core.errors import NeardupError

__all__ = ["NotIndexedError", "NotSoundError", "NotTracedError"]


class NotIndexedError(NeardupError):
    """The index has no such image."""


class NotSoundError(NeardupError):
    """A check found what must not be; the message counts it."""


class NotTracedError(NeardupError):
    """The topic of traces has none of the image."""
