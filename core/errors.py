"""The tree of everything that can go wrong, and what the caller is to do about it.

    NeardupError
    ├── SettingsError        the settings do not hold together: fix them, start again
    ├── MismatchError        two parts were made for different settings or models: both values are in the message
    ├── BadInputError        the caller's input is wrong: nothing was done
    ├── DeniedError          the call needs the token of the settings: nothing was done
    └── ServiceError         a call to a server did not succeed
        ├── UnavailableError     it is down, too slow, or its disk is full: wait and call again, for ever
        │   └── BusyError            it rejects calls to keep its promises to others: wait as long as it says
        ├── FaultError           it failed on this very call (INTERNAL): call again, suspect the input after some tries
        ├── RefusedError         it refuses one item (INVALID_ARGUMENT): set that item apart
        ├── LogGapError          the offsets do not continue what it has (OUT_OF_RANGE): start again at its position
        └── StaleError           what the write rests on has changed (ABORTED): look up again, decide again

Errors of storage (`storage.errors`) hang under the same root.
"""

from __future__ import annotations


class NeardupError(Exception):
    """The root of all our errors."""


class SettingsError(NeardupError):
    """The settings do not hold together."""


class MismatchError(NeardupError):
    """Two parts were made for different settings; the message carries both values."""


class BadInputError(NeardupError):
    """The caller's input is wrong, nothing was done."""


class DeniedError(NeardupError):
    """The call needs the token of the settings (`api_token`) and came without it; nothing was done."""


class ServiceError(NeardupError):
    """A call to a server did not succeed."""


class UnavailableError(ServiceError):
    """The server is down, too slow or cannot write at present: wait and call again."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BusyError(UnavailableError):
    """The server rejects the call, so that others are served: come again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)


class FaultError(ServiceError):
    """The server failed on this call; the same call may succeed, or the input may be what breaks it."""


class RefusedError(ServiceError):
    """The server refuses one item of the call; `offset` names it where the server could tell."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class LogGapError(ServiceError):
    """The offsets of the call do not continue what the server has; `expected` is the next it would take."""

    def __init__(self, message: str, expected: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected


class StaleError(ServiceError):
    """A conditional write lost: `offset` and `revision` are what the server has now."""

    def __init__(self, message: str, offset: int, revision: int) -> None:
        super().__init__(message)
        self.offset = offset
        self.revision = revision
