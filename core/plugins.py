"""Loads a class of the user's, named in the settings: a model, a store.

A name is either an entry point's (`tensorflow`, declared by an installed package under the group) or a dotted one
(`package.module:Class`). Nothing is imported before it is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from core.errors import SettingsError

__all__ = ["load_plugin"]


def load_plugin(group: str, name: str) -> object:
    """Imports what a name stands for. The caller checks that it is of the right kind.

    Args:
        group: The group of entry points, such as `neardup.models`.
        name: The name of an entry point of this group, or `module:attribute`.

    Raises:
        SettingsError: Nothing has this name, or it cannot be imported. The message says what was looked for, and
            which entry points there are.
    """
    dotted = ":" in name and EntryPoint.pattern.match(name)
    point = EntryPoint(name, name, group) if dotted else _entry_point(group, name)
    try:
        found: object = point.load()
    except (ImportError, AttributeError) as error:
        where = name if name == point.value else f"{name} ({point.value})"
        raise SettingsError(f"cannot load {where}: {error}; {_what_there_is(group)}") from error
    return found


def _entry_point(group: str, name: str) -> EntryPoint:
    found = {point.value: point for point in entry_points(group=group, name=name)}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise SettingsError(f"several packages declare {name!r} in the group {group}: {', '.join(sorted(found))}")
    raise SettingsError(
        f"no installed package declares {name!r} in the group {group}; {_what_there_is(group)}; "
        "a class is also named as package.module:Class"
    )


def _what_there_is(group: str) -> str:
    names = sorted({point.name for point in entry_points(group=group)})
    return f"the entry points of {group} are: {', '.join(names)}" if names else f"{group} has no entry points"
