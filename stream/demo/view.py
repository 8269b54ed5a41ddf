"""The progress that the demo reports. How it is shown is left to the command line."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from stream.local.status import State

__all__ = ["Bars", "DemoView"]


class Bars(Protocol):
    """Progress bars, one below the other."""

    def add(self, name: str, total: int) -> None:
        """Adds an empty bar."""
        ...

    def set(self, name: str, done: int, note: str = "") -> None:
        """Sets how much is done, with a note."""
        ...


class DemoView(Protocol):
    """Shows the progress of the demo."""

    def stage(self, text: str) -> None:
        """The next stage begins."""
        ...

    def part(self, name: str, state: State, detail: str) -> None:
        """A part of the deployment changed its state."""
        ...

    def note(self, text: str) -> None:
        """Further information."""
        ...

    def bars(self) -> AbstractContextManager[Bars]:
        """Bars, shown until the context ends."""
        ...
