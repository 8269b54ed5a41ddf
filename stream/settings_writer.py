"""Changing numbers in a settings file and leaving everything else as it is, comments too.

The new text is checked as a whole before it replaces the old one, in one step: a reader sees the old settings or the
new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Item, Table

from core.errors import BadInputError, SettingsError
from core.files import replacing
from stream.settings import load_settings

__all__ = ["changed_text", "write_values"]

Values = Mapping[str, Mapping[str, int | float]]
"""Per table, such as `signals.photos.terms`, its keys and their new values."""


def write_values(path: Path, values: Values) -> None:
    """Sets values in a settings file.

    Raises:
        SettingsError: The file cannot be read, or its new content would be refused; it is left as it was.
        BadInputError: It cannot be written.
    """
    try:
        old = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror or error}") from error
    try:
        with replacing(path, mode=path.stat().st_mode & 0o777) as draft:
            draft.write_text(changed_text(old, values), encoding="utf-8")
            load_settings(draft)
    except OSError as error:
        raise BadInputError(f"cannot write the settings file {path}: {error.strerror or error}") from error


def changed_text(text: str, values: Values) -> str:
    """A TOML text with new values: changed where the key stands, else added to its table, else with its table.

    Raises:
        SettingsError: The text is not TOML.
    """
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise SettingsError(f"the settings file is not valid TOML: {error}") from error
    for name, keys in values.items():
        table: Table = document  # type: ignore[assignment]
        for part in name.split("."):
            # A table of tables alone needs no header of its own.
            table = table.setdefault(part, tomlkit.table(is_super_table=True))
        for key, value in keys.items():
            _set(table, key, tomlkit.value(_shown(value)))
    return tomlkit.dumps(document)


def _set(table: Table, key: str, value: Item) -> None:
    old = table.get(key)
    table[key] = value
    if old is not None and value.trivia.comment:
        # The comment keeps its column where the new value leaves room.
        room = len(old.as_string()) + len(old.trivia.comment_ws) - len(value.as_string())
        table[key].trivia.comment_ws = " " * max(2, room)


def _shown(value: int | float) -> str:
    return f"{value:_}" if isinstance(value, int) else repr(float(f"{value:.6g}"))
