"""The settings of a deployment, written out whole, so that every part reads the same ones until the next start.

Parts restart at any time. Read anew from the user's file and environment, a part that came back could have other
settings than its neighbours; so each start writes what it was given, with absolute paths, and all read that file alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from stream.settings import Settings

__all__ = ["resolved_toml"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def resolved_toml(settings: Settings) -> str:
    """The settings as TOML: every value, no default left out, every path absolute."""
    values = settings.model_dump(mode="json", exclude={"base"}, exclude_none=True)
    values["data"] = str(settings.data_dir)
    values["kafka"]["client"] = asdict(settings.kafka_security)
    for name, signal in settings.signals.items():
        values["signals"][name]["model"] = str(settings.path(signal.model))
        if signal.centres is not None:
            values["signals"][name]["centres"] = str(settings.path(signal.centres))
        projection = signal.code.projection
        values["signals"][name]["code"]["projection"] = "" if projection is None else str(settings.path(projection))
    head = "# Written at every start from the settings file and the environment; what the running parts read.\n"
    return head + "".join(f"{line}\n" for line in _table(values, ()))


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    if path:
        yield f"\n[{'.'.join(_key(part) for part in path)}]"
    for key, value in values.items():
        if not isinstance(value, Mapping):
            yield f"{_key(key)} = {_scalar(value)}"
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _table(value, (*path, key))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _scalar(value: Any) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case str():
            return _text(value)
        case list():
            return f"[{', '.join(_scalar(item) for item in value)}]"
        case _:
            raise TypeError(f"settings cannot carry a {type(value).__name__}: {value!r}")


def _text(value: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but DEL must be escaped too, and no surrogates may be written."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
