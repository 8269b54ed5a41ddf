"""How a long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnProgress"]

OnProgress = Callable[[str, int, int | None], None]
"""Called with a word for the step, with how much of it is done, and of how much (None: not known)."""
