"""Page tokens name the signal that they are of, so that another one refuses them and lists nothing wrong.

    photos.AgAAAAAAAAAAAQ...        the name of the signal, a dot, and the token of its store (`storage.tokens`)

Sequences of two stores have nothing to do with each other. A reader of an alias may ask for a page after the alias has
moved: it must begin again.
"""

from __future__ import annotations

from core.errors import BadInputError, MismatchError

__all__ = ["OtherSignalError", "PageTokens"]


class OtherSignalError(MismatchError):
    """What was asked for is of another signal than the one that answers."""

    def __init__(self, signal: str, message: str) -> None:
        super().__init__(message)
        self.signal = signal


class PageTokens:
    """The tokens of one signal; without a name they are those of its store."""

    def __init__(self, signal: str) -> None:
        """Takes the name of the signal that answers."""
        self._signal = signal

    def given(self, token: str | None) -> str | None:
        """What the caller gets for a token of the store; None: there is none."""
        return token if token is None or not self._signal else f"{self._signal}.{token}"

    def taken(self, token: str | None) -> str | None:
        """The token of the store in that of a caller; None: there is none.

        Raises:
            OtherSignalError: It is of another signal.
            BadInputError: It names no signal.
        """
        if token is None or not self._signal:
            return token
        signal, dot, own = token.partition(".")
        if not dot:
            raise BadInputError(f"{token[:64]!r} is no page token: take it from the page before")
        if signal != self._signal:
            raise OtherSignalError(
                self._signal,
                f"the page token is of the signal {signal[:64]!r}, and {self._signal} answers: begin at the first page",
            )
        return own
