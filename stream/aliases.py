"""What people do with aliases: the file first, which is the truth, then the topic that tells readers of Kafka.

One change at a time, also while the topic is written: so its last record is what the file says.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.access import Right
from core.alias_file import read_aliases, write_aliases
from core.aliases import Alias, Aliases, check_name, encode_record, with_alias, without
from core.errors import BadInputError, DeniedError, SettingsError, UnavailableError
from stream.access import credentials, key_file
from stream.alias_places import alias_file, signal_places
from stream.alias_topic import send_record
from stream.errors import NotKnownError
from stream.settings import Settings

__all__ = ["drop_alias", "known_alias", "listed_aliases", "move_back", "set_alias"]


def listed_aliases(settings: Settings) -> dict[str, Alias]:
    """Every alias by name.

    Raises:
        BadInputError: The file is damaged.
    """
    file = alias_file(settings)
    try:
        return read_aliases(file)
    except BadInputError as error:
        raise BadInputError(
            f"{error}\nit is {file}, and the servers go on with what it said before; take it away, and set each alias "
            "again with `neardup alias set`"
        ) from error


def known_alias(aliases: Aliases, name: str) -> Alias:
    """An alias by name.

    Raises:
        NotKnownError: There is none.
    """
    if name not in aliases:
        raise NotKnownError(f"there is no alias {name}: `neardup alias list` has those that there are")
    return aliases[name]


def set_alias(settings: Settings, name: str, wanted: Alias, expected: str | None = None) -> Alias:
    """Makes an alias name a signal, and tells Kafka, also where it names that one already; returns it as it is now.

    Raises:
        SettingsError: There is no such signal.
        BadInputError: The name is none or a signal's, a text is too long, or the file is damaged.
        ConflictError: It names another signal than expected.
        DeniedError: This process has no write key.
        UnavailableError: The file is written, and Kafka was not told.
    """
    settings.signal(wanted.signal)
    check_name(name)
    if name in settings.signals:
        raise BadInputError(f"{name} is a signal: an alias has a name of its own")
    return _changed(settings, name, lambda aliases: with_alias(aliases, name, wanted, expected))[name]


def move_back(settings: Settings, name: str, since_ms: int, author: str, reason: str) -> Alias:
    """Makes an alias name the signal that it named before, and tells Kafka; returns it as it is now.

    Raises:
        NotKnownError: There is no such alias.
        SettingsError: The signal is not in the settings any more.
        BadInputError: It named no signal before, or the file is damaged.
        DeniedError: This process has no write key.
        UnavailableError: The file is written, and Kafka was not told.
    """

    def back(aliases: Aliases) -> Aliases:
        now = known_alias(aliases, name)
        if now.previous is None:
            raise BadInputError(f"the alias {name} has named no other signal than {now.signal}")
        settings.signal(now.previous)
        return with_alias(aliases, name, Alias(now.previous, since_ms, author, reason))

    return _changed(settings, name, back)[name]


def drop_alias(settings: Settings, name: str) -> None:
    """Ends an alias, and tells Kafka, also where there is none.

    Raises:
        BadInputError: The name is none, or the file is damaged.
        DeniedError: This process has no write key.
        UnavailableError: The file is written, and Kafka was not told.
    """
    check_name(name)
    _changed(settings, name, lambda aliases: without(aliases, name))


def _changed(settings: Settings, name: str, step: Callable[[Aliases], Aliases]) -> Aliases:
    if credentials(settings, Right.WRITE).authorization() is None:
        raise DeniedError(f"aliases are written with the write key, and there is none in {key_file(settings, 'write')}")
    file = alias_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(file.parent):
        before = listed_aliases(settings)
        after = step(before)
        if after != before or not file.exists():
            write_aliases(file, after)
        _tell(settings, name, after.get(name))
    return after


def _tell(settings: Settings, name: str, alias: Alias | None) -> None:
    """Writes the topic."""
    if alias is None:
        value, done, again = None, f"the alias {name} is dropped", f"neardup alias drop {name}"
    else:
        place = signal_places(settings).get(alias.signal)
        if place is None:
            raise SettingsError(f"the settings do not know the signal {alias.signal}")
        value = encode_record(alias, place)
        done, again = f"the alias {name} names {alias.signal}", f"neardup alias set {name} {alias.signal}"
    try:
        send_record(settings, name, value)
    except UnavailableError as error:
        raise UnavailableError(
            f"{done} for readers of the HTTP API, but Kafka was not told: {error}\n"
            f"run `{again}` once Kafka answers: it sends the record again, and changes nothing else"
        ) from error


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Waits for its turn to change the file."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
