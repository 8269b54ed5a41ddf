"""What can go wrong with a call of the HTTP API, and what the caller is to do about it.

NeardupClientError            the answer is none that this client knows: the message shows it
├── NotFoundError             there is no such image, cluster or override, or its verdict is still on its way
│   └── DeletedError              the image was deleted
├── UnknownAliasError        there is no such alias; what the call is about may be there
├── ConflictError             an override contradicts another one, which the message names: undo that one first
├── MovedError                what is listed is in another cluster since the page before
├── SwitchedError             the alias names another signal than the one that gave the page before, or a number
├── BadRequestError           the id, limit or page token is not valid: the same call fails again
└── ServiceUnavailableError   nobody answers, or the store cannot be read just now: call again later
"""

from __future__ import annotations

__all__ = [
    "BadRequestError",
    "ConflictError",
    "DeletedError",
    "MovedError",
    "NeardupClientError",
    "NotFoundError",
    "ServiceUnavailableError",
    "SwitchedError",
    "UnknownAliasError",
]


class NeardupClientError(Exception):
    """The root of the client's errors; `status` is that of HTTP, None where there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(NeardupClientError):
    """There is no such image, cluster or override, or its verdict is still on its way."""


class DeletedError(NotFoundError):
    """The image was deleted; `deleted_at` is when that was asked for, ISO 8601 in UTC."""

    def __init__(self, message: str, status: int | None = None, deleted_at: str = "") -> None:
        super().__init__(message, status)
        self.deleted_at = deleted_at


class UnknownAliasError(NeardupClientError):
    """There is no such alias: it was dropped, or has another name. What the call is about may be there."""


class ConflictError(NeardupClientError):
    """An override contradicts another one, which the message names; nothing was written."""


class MovedError(NeardupClientError):
    """What is listed is in another cluster since the page before: list `head` from its first page on."""

    def __init__(self, message: str, status: int | None = None, head: str = "") -> None:
        super().__init__(message, status)
        self.head = head


class SwitchedError(NeardupClientError):
    """The page before, or a number, is of another signal than `signal`, which answers now: begin at the first page."""

    def __init__(self, message: str, status: int | None = None, signal: str = "") -> None:
        super().__init__(message, status)
        self.signal = signal


class BadRequestError(NeardupClientError):
    """The id, limit or page token is not valid."""


class ServiceUnavailableError(NeardupClientError):
    """The service does not answer, also after the retries; `retry_after_s` is what it asks to wait, where it said."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, status)
        self.retry_after_s = retry_after_s
