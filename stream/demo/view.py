"""What the demo tells while it runs; how it is shown is not its business."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from stream.local.status import State

__all__ = ["Bars", "DemoView"]


class Bars(Protocol):
    """Bars that fill side by side."""

    def add(self, name: str, total: int) -> None:
        """One more bar, empty."""
        ...

    def set(self, name: str, done: int, note: str = "") -> None:
        """How much is done, and a word about it."""
        ...


class DemoView(Protocol):
    """Is told of each stage."""

    def stage(self, text: str) -> None:
        """The next stage begins."""
        ...

    def part(self, name: str, state: State, detail: str) -> None:
        """A part of the deployment has another state."""
        ...

    def note(self, text: str) -> None:
        """Something worth knowing has happened."""
        ...

    def bars(self) -> AbstractContextManager[Bars]:
        """Bars, shown until the context ends."""
        ...
