"""Changing numbers in a settings file and leaving everything else as it is, comments too.

The new text is checked as a whole before it takes the old one's place, and takes it in one step: whoever reads the file
sees the old settings or the new ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from core.errors import BadInputError, SettingsError
from stream.settings import load_settings

__all__ = ["changed_text", "write_values"]

Values = Mapping[str, Mapping[str, int | float]]
"""Per table, such as `signals.photos.terms`, its keys and their new values."""


def write_values(path: Path, values: Values) -> None:
    """Sets values in a settings file.

    Raises:
        SettingsError: The file cannot be read, or would not hold with the new values; it is left as it was.
        BadInputError: It cannot be written.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror or error}") from error
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8") as stream:
            stream.write(changed_text(old, values))
            stream.flush()
            os.fsync(stream.fileno())
        load_settings(fresh)
        fresh.chmod(path.stat().st_mode & 0o777)
        fresh.replace(path)
    except OSError as error:
        raise BadInputError(f"cannot write the settings file {path}: {error.strerror or error}") from error
    finally:
        fresh.unlink(missing_ok=True)


def changed_text(text: str, values: Values) -> str:
    """A TOML text with new values: changed where the key stands, else added to its table, else with its table."""
    lines = text.splitlines()
    for table, keys in values.items():
        start = _table_start(lines, table)
        if start is None:
            lines += ["", f"[{table}]"]
            start = len(lines)
        for key, value in keys.items():
            _set(lines, start, key, _shown(value))
    return "\n".join(lines) + "\n"


def _table_start(lines: list[str], table: str) -> int | None:
    """The line behind a table's header."""
    header = re.compile(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?")
    return next((number + 1 for number, line in enumerate(lines) if header.fullmatch(line)), None)


def _set(lines: list[str], start: int, key: str, value: str) -> None:
    end = next((at for at in range(start, len(lines)) if lines[at].lstrip().startswith("[")), len(lines))
    entry = re.compile(rf"(\s*{re.escape(key)}\s*=\s*)([^#]*?)(\s*)(#.*)?")
    for at in range(start, end):
        found = entry.fullmatch(lines[at])
        if found:
            before, old, space, comment = found.groups()
            # The comment keeps its column where the new value leaves room.
            gap = " " * max(2, len(old) + len(space) - len(value)) if comment else ""
            lines[at] = f"{before}{value}{gap}{comment or ''}"
            return
    while end > start and not lines[end - 1].strip():
        end -= 1
    lines.insert(end, f"{key} = {value}")


def _shown(value: int | float) -> str:
    return f"{value:_}" if isinstance(value, int) else repr(float(f"{value:.6g}"))
