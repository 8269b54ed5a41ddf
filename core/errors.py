"""The tree of errors, and what the caller should do about each.

    NeardupError
    ├── SettingsError        the settings are invalid or contradict each other: fix them, start again
    ├── MismatchError        two parts were made for different settings or models: both values are in the message
    │   └── ConflictError        an override contradicts another, or an alias has moved: the message names what is there
    ├── BadInputError        the caller's input is wrong: nothing was done
    ├── DeniedError          the call lacks the token of the settings: nothing was done
    └── ServiceError         a call to a server did not succeed
        ├── UnavailableError     it is down, too slow, or its disk is full: wait and call again, without limit
        │   ├── DeadlineError        it did not answer in time: the same, and a ping tells whether it is alive
        │   └── BusyError            it rejects the call to serve other callers: wait as long as it says
        ├── FaultError           it failed on this call (INTERNAL): call again, after some tries isolate the input
        ├── RefusedError         it refuses one item (INVALID_ARGUMENT): isolate that item
        ├── LogGapError          the offsets leave a gap after its position (OUT_OF_RANGE): start again there
        └── StaleError           what the write rests on has changed (ABORTED): look up and decide again

The errors of storage (`storage.errors`) are below the same root.
"""

from __future__ import annotations


class NeardupError(Exception):
    """The root of all our errors."""


class SettingsError(NeardupError):
    """The settings are invalid or contradict each other."""


class MismatchError(NeardupError):
    """Two parts were made for different settings; the message carries both values."""


class ConflictError(MismatchError):
    """An override contradicts another one, or an alias names another signal than expected; nothing was written."""


class BadInputError(NeardupError):
    """The caller's input is wrong; nothing was done."""


class DeniedError(NeardupError):
    """The call lacks the key that it needs (`core.access`); nothing was done."""


class ServiceError(NeardupError):
    """A call to a server did not succeed."""


class UnavailableError(ServiceError):
    """The server is down, too slow, or cannot write at present: wait and call again."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineError(UnavailableError):
    """The server did not answer within the deadline of the call: it is down, slow, or slow on this call alone."""


class BusyError(UnavailableError):
    """The server rejects the call to serve other callers: call again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)


class FaultError(ServiceError):
    """The server failed on this call. The same call may succeed, or the input may be the cause."""


class RefusedError(ServiceError):
    """The server refuses one item of the call; `offset` names it, if the server knows it."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class LogGapError(ServiceError):
    """The offsets of the call leave a gap after the server's position; `expected` is the next that it takes."""

    def __init__(self, message: str, expected: int | None = None) -> None:
        super().__init__(message)
        self.expected = expected


class StaleError(ServiceError):
    """A conditional write came too late: `offset` and `revision` are what the server has now."""

    def __init__(self, message: str, offset: int, revision: int) -> None:
        super().__init__(message)
        self.offset = offset
        self.revision = revision
