"""Shows plain data as lines: one value a line, what lies within another indented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stream.cli.output import line

__all__ = ["show_nested"]

_NAME_WIDTH = 22


def show_nested(values: Mapping[str, Any], indent: str = "") -> None:
    """Shows values by name. What is empty is left out."""
    for name, value in values.items():
        shown = name.replace("_", " ")
        if isinstance(value, Mapping):
            _show_block(shown, value, indent)
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            for each in value:
                _show_block(shown, each, indent)
        elif value not in (None, "", [], ()):
            text = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
            line(f"{indent}{shown:<{max(1, _NAME_WIDTH - len(indent))}} {text}")


def _show_block(name: str, values: Mapping[str, Any], indent: str) -> None:
    if values:
        line(f"{indent}{name}")
        show_nested(values, indent + "  ")
