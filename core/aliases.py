"""Names under which readers find one of several signals, and which signal each of them names.

An *alias* is moved from one signal to another, and back, while its readers change nothing. It knows the signal that it
named before. The file of aliases (`core.alias_file`) is the truth; its body is

    {"aliases": {"live": {"signal": "photos", "since_ms": 1700000000000, "author": "ann", "reason": "",
     "previous": null}}}

The topic of aliases has the same of each alias, with the topics of its signal beside it. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from core.errors import BadInputError, ConflictError

__all__ = [
    "MAX_ALIASES",
    "MAX_TEXT_BYTES",
    "NAME",
    "Alias",
    "Aliases",
    "SignalPlace",
    "check_name",
    "decode_aliases",
    "encode_aliases",
    "encode_record",
    "with_alias",
    "without",
]

NAME = r"^[a-z][a-z0-9-]{0,62}$"
"""What signals and aliases are called."""

MAX_ALIASES = 100
"""Of a deployment."""

MAX_TEXT_BYTES = 1024
"""Of an author and of a reason, in UTF-8."""

_KEYS = {"signal", "since_ms", "author", "reason", "previous"}


@dataclass(frozen=True, slots=True)
class Alias:
    """Which signal an alias names, since when (milliseconds since the epoch), and who said so.

    Raises:
        BadInputError: A name is none, or a text is too long or not Unicode.
    """

    signal: str
    since_ms: int
    author: str = ""
    reason: str = ""
    previous: str | None = None
    """The signal that it named before; None: it is new."""

    def __post_init__(self) -> None:
        check_name(self.signal)
        if self.previous is not None:
            check_name(self.previous)
        if type(self.since_ms) is not int or self.since_ms < 0:
            raise BadInputError(f"since_ms is {self.since_ms!r}, no time in milliseconds since 1970")
        for name in ("author", "reason"):
            _check_text(name, getattr(self, name))


Aliases = Mapping[str, Alias]
"""By name."""


@dataclass(frozen=True, slots=True)
class SignalPlace:
    """Where readers find a signal."""

    api: str
    """The address of its HTTP API, without a path."""
    topics: Mapping[str, str] = field(default_factory=dict)
    """The names of the topics that readers follow, by what they hold."""


def check_name(name: object) -> None:
    """Makes sure that a name is one.

    Raises:
        BadInputError: It has other characters, or is too long.
    """
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise BadInputError(
            f"{str(name)[:80]!r} is no name of a signal or an alias: that is 1 to 63 small letters, digits and "
            "'-', and begins with a letter"
        )


def with_alias(aliases: Aliases, name: str, wanted: Alias, expected: str | None = None) -> dict[str, Alias]:
    """The aliases with one of them set. One that names the wanted signal already stays as it is.

    Args:
        aliases: As they are.
        name: Of the alias.
        wanted: What it becomes, apart from `previous`, which is told from what it is.
        expected: The signal that it must name now; None: any, and it may be new.

    Raises:
        BadInputError: The name is none, or there are too many aliases.
        ConflictError: It names another signal than expected.
    """
    check_name(name)
    now = aliases.get(name)
    if now is not None and now.signal == wanted.signal:
        return dict(aliases)
    if expected is not None and (now is None or now.signal != expected):
        said = "there is no such alias" if now is None else f"it names {now.signal}"
        raise ConflictError(f"the alias {name} was expected to name {expected}, but {said}: nothing was changed")
    if now is None and len(aliases) >= MAX_ALIASES:
        raise BadInputError(f"there are {len(aliases)} aliases already, and no more than {MAX_ALIASES} may be")
    previous = None if now is None else now.signal
    return {**aliases, name: Alias(wanted.signal, wanted.since_ms, wanted.author, wanted.reason, previous)}


def without(aliases: Aliases, name: str) -> dict[str, Alias]:
    """The aliases without one of them, which need not be there."""
    return {each: alias for each, alias in aliases.items() if each != name}


def encode_aliases(aliases: Aliases) -> dict[str, Any]:
    """The body of the file."""
    return {"aliases": {name: asdict(alias) for name, alias in aliases.items()}}


def decode_aliases(body: Mapping[str, Any]) -> dict[str, Alias]:
    """The aliases in the body of the file.

    Raises:
        BadInputError: It has another form, or more or longer parts than may be.
    """
    listed = body.get("aliases")
    if body.keys() != {"aliases"} or not isinstance(listed, dict):
        raise BadInputError(f"it has the keys {sorted(body)}, not aliases alone")
    if len(listed) > MAX_ALIASES:
        raise BadInputError(f"it has {len(listed)} aliases, at most {MAX_ALIASES} may be")
    for name, values in listed.items():
        check_name(name)
        if not isinstance(values, dict) or values.keys() != _KEYS:
            raise BadInputError(f"the alias {name} has not the keys {', '.join(sorted(_KEYS))}")
    return {name: Alias(**values) for name, values in listed.items()}


def encode_record(alias: Alias, place: SignalPlace) -> bytes:
    """The value of the record that tells readers of Kafka of an alias; its key is the name."""
    said = asdict(alias)
    return json.dumps({"signal": said.pop("signal"), "topics": dict(place.topics), **said}).encode()


def _check_text(name: str, text: object) -> None:
    try:
        size = len(str(text).encode()) if isinstance(text, str) else -1
    except UnicodeEncodeError:
        size = -1
    if size < 0:
        raise BadInputError(f"the {name} is not valid Unicode")
    if size > MAX_TEXT_BYTES:
        raise BadInputError(f"the {name} has {size} bytes, at most {MAX_TEXT_BYTES} are allowed")
