"""Reading records from JSON objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

__all__ = ["known_values"]


def known_values(kind: type[Any], data: Mapping[str, Any], **converters: Callable[[Any], object]) -> dict[str, Any]:
    """The values of a record's fields, by name.

    Args:
        kind: The class of the record, a dataclass.
        data: The JSON object.
        converters: What makes the value of a field from that in the object, where it is not the same.

    Raises:
        KeyError: A key is missing.
    """
    names = (each.name for each in fields(kind))
    return {name: converters[name](data[name]) if name in converters else data[name] for name in names}
