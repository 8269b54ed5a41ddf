"""Errors of the wiring and the command line; they hang under the root error."""

from __future__ import annotations

from core.errors import NeardupError, UnavailableError

__all__ = ["NoStoreError", "NotIndexedError", "NotKnownError", "NotSoundError"]


class NoStoreError(UnavailableError):
    """No storage server answers, and there is no store on this machine."""


class NotIndexedError(NeardupError):
    """The index has no such image."""


class NotSoundError(NeardupError):
    """A check found what must not be; the message counts it."""


class NotKnownError(NeardupError):
    """Nothing is known of the image where it was looked for."""
