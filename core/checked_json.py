"""Small JSON files with a format version and a checksum. A damaged file is refused, and never read as another value.

    {"format": 3, "crc32c": 305419896, "body": {...}}

The CRC-32C is that of the JSON text `[format, body]` with sorted keys, so spaces and line breaks may differ. Earlier
releases wrote some files without a checksum, as one flat object. A reader that knows such a file takes it once and
writes it anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crc32c import crc32c

from core.files import write_text

__all__ = ["CheckedJson", "DamagedFileError", "read_checked", "write_checked"]

_KEYS = {"format", "crc32c", "body"}


class DamagedFileError(ValueError):
    """The content of a file is not what was written; the message says how that shows, without the file's name."""


@dataclass(frozen=True, slots=True)
class CheckedJson:
    """The content of a file."""

    body: dict[str, Any]
    format: int
    checked: bool = True
    """False: an earlier release wrote it without a checksum; `body` is then the whole object."""


def write_checked(
    path: Path, format_version: int, body: Mapping[str, Any], *, mode: int | None = None, sync: bool = True
) -> None:
    """Replaces a file atomically. With `sync` it survives a power cut once this returns. See `core.files`."""
    content = {"format": format_version, "crc32c": _checksum(format_version, body), "body": body}
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n", mode=mode, sync=sync)


def read_checked(path: Path) -> CheckedJson:
    """Reads a file and compares its checksum.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
        DamagedFileError: It is empty, cut, or changed.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFileError(f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DamagedFileError("it is not a JSON object")
    if not content.keys() & {"crc32c", "body"}:
        return CheckedJson(content, _number(content.get("format", 0)), checked=False)
    if content.keys() != _KEYS or not isinstance(content["body"], dict):
        raise DamagedFileError(f"it has the keys {sorted(content)}, not {sorted(_KEYS)}")
    written, found = _number(content["crc32c"]), _checksum(_number(content["format"]), content["body"])
    if found != written:
        raise DamagedFileError(f"its checksum is {found:08x}, {written:08x} was written")
    return CheckedJson(content["body"], content["format"])


def _number(value: object) -> int:
    if type(value) is not int:
        raise DamagedFileError(f"{value!r} stands where a number should be")
    return value


def _checksum(format_version: int, body: Mapping[str, Any]) -> int:
    return int(crc32c(json.dumps([format_version, body], sort_keys=True).encode()))
