"""How the coming and going of parts is told: one line a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.cli.output import notes
from stream.printable import printable

if TYPE_CHECKING:
    from stream.local.status import State

__all__ = ["tell_part"]

_STYLES = {"ready": "green", "done": "green", "failing": "red", "starting": "dim", "stopping": "dim"}


def tell_part(name: str, state: State, detail: str) -> None:
    """One part has another state now."""
    from rich.text import Text

    text = Text(f"  {name:<24}")
    text.append(f"{state:<10}", style=_STYLES.get(state, ""))
    text.append(printable(detail))
    notes().print(text)
