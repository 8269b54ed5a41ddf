"""Pages of overrides: however many images they name, a page stays small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import BadInputError
from core.overrides import ListedOverride
from core.types import ImageId
from storage.interfaces import ClusterStore
from storage.limits import MAX_OVERRIDES, id_bytes

__all__ = ["OverridePage", "override_of", "override_page"]

MAX_PAGE_BYTES = 1 << 19
"""The bytes of the images, authors and reasons of a page, about."""

_AT_ONCE = 16
"""Overrides that are read at a time: those beyond the page are read in vain."""


@dataclass(frozen=True, slots=True)
class OverridePage:
    """Some overrides, by number."""

    items: tuple[ListedOverride, ...]
    more: bool
    """Others follow."""


def override_page(store: ClusterStore, after: int, limit: int, image_id: ImageId | None = None) -> OverridePage:
    """The overrides with numbers above `after`: at most `limit` of them, and at least one if there is one.

    Args:
        store: Holds them.
        after: The number of the last one that the caller has.
        limit: 1 to 1,000.
        image_id: Only those that name this image.

    Raises:
        BadInputError: The limit is out of range, or the id is none.
    """
    if not 1 <= limit <= MAX_OVERRIDES:
        raise BadInputError(f"a page has 1 to {MAX_OVERRIDES} overrides, not {limit}")
    if image_id is not None:
        id_bytes(image_id)
    found: list[ListedOverride] = []
    left = MAX_PAGE_BYTES
    for each in _all_after(store, after, image_id):
        if found and (left <= 0 or len(found) == limit):
            return OverridePage(tuple(found), more=True)
        found.append(each)
        left -= _size(each)
    return OverridePage(tuple(found), more=False)


def override_of(store: ClusterStore, number: int) -> ListedOverride | None:
    """The override with this number; None: there is none."""
    found = next(iter(store.overrides(number - 1, 1)), None)
    return found if found is not None and found.override.number == number else None


def _all_after(store: ClusterStore, after: int, image_id: ImageId | None) -> Iterator[ListedOverride]:
    while True:
        read = store.overrides(after, _AT_ONCE, image_id)
        yield from read
        if len(read) < _AT_ONCE:
            return
        after = read[-1].override.number


def _size(listed: ListedOverride) -> int:
    override = listed.override
    return sum(len(each.encode()) for each in (*override.images, override.author, override.reason))
