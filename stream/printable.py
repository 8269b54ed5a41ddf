"""Text of others, such as image ids, as it can be shown on one line of a terminal or of a log.

Characters that move the cursor, break the line or turn its direction are shown as escapes: `\\n`, `\\x1b`, `\\u202e`.
Everything else stays as it is, a backslash too, so that an ordinary id can be copied. Where the exact text matters, ask
for JSON: there the same characters are escaped as JSON does it, and nothing is ambiguous.
"""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["json_text", "printable", "printable_json"]

_UNSHOWN = (
    "\x00-\x1f\x7f-\x9f"  # controls: C0, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the direction of text
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff"  # halves of surrogate pairs: no encoding takes them
)
_ANY = re.compile(f"[{_UNSHOWN}]")
_NAMES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def printable(text: str) -> str:
    """The text with escapes for what must not reach a terminal; it has no line break."""
    return _ANY.sub(_escape, text)


def printable_json(text: str) -> str:
    """JSON of one line that means the same, with escapes for what must not reach a terminal."""
    return _ANY.sub(lambda found: _NAMES.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON that is safe to show. Line breaks are only those of the layout."""
    lines = json.dumps(value, ensure_ascii=False, indent=indent, default=str).split("\n")
    return "\n".join(map(printable_json, lines))


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return _NAMES.get(found[0]) or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")
