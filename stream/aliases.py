"""What people do with aliases: the file first, which is the truth, then the topic that tells readers of Kafka.

One change at a time, also while the topic is written: so its last record is what the file says.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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

__all__ = ["check_free", "drop_alias", "known_alias", "listed_aliases", "move_back", "set_alias"]

_FOLDER_MODE = 0o755
"""Servers of other users read the file, whatever the umask of who writes it is."""


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
            "again with `neardup alias set`, all at once: the first one makes all others unknown until they are set"
        ) from error


def known_alias(aliases: Aliases, name: str) -> Alias:
    """An alias by name.

    Raises:
        NotKnownError: There is none.
    """
    if name not in aliases:
        raise NotKnownError(f"there is no alias {name}: `neardup alias list` has those that there are")
    return aliases[name]


def check_free(settings: Settings, name: str) -> None:
    """Makes sure that an alias may have a name.

    Raises:
        BadInputError: It is none, or a signal's.
    """
    check_name(name)
    if name in settings.signals:
        raise BadInputError(f"{name} is a signal: an alias has a name of its own")


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
    check_free(settings, name)
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


def drop_alias(settings: Settings, name: str, *, again: bool = False) -> None:
    """Ends an alias, and tells Kafka.

    Args:
        settings: Of the deployment.
        name: Of the alias.
        again: Tell Kafka also where there is no such alias.

    Raises:
        BadInputError: The name is none, or the file is damaged.
        NotKnownError: There is no such alias.
        DeniedError: This process has no write key.
        UnavailableError: The file is written, and Kafka was not told.
    """
    check_name(name)

    def dropped(aliases: Aliases) -> Aliases:
        if not again:
            known_alias(aliases, name)
        return without(aliases, name)

    _changed(settings, name, dropped)


def _changed(settings: Settings, name: str, step: Callable[[Aliases], Aliases]) -> Aliases:
    if credentials(settings, Right.WRITE).authorization() is None:
        raise DeniedError(f"aliases are written with the write key, and there is none in {key_file(settings, 'write')}")
    file = alias_file(settings)
    with suppress(FileExistsError):
        file.parent.mkdir(parents=True)
        file.parent.chmod(_FOLDER_MODE)
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
        value, done, again = None, f"the alias {name} is dropped", f"neardup alias drop {name} --again"
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
    # The folder is locked, not a file in it: that would belong to the first user who changes an alias.
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
