"""Which versions of which images were placed, and where.

Versions of one image are placed in ascending order only, so its entries form a chain from the latest to the first.
"""

from __future__ import annotations

from dataclasses import dataclass

from search.types import ImageId

__all__ = ["Placed", "Placements"]


@dataclass(frozen=True, slots=True)
class Placed:
    """What a record meets at its offset."""

    entry: int | None
    """The entry of its version, placed at its offset or before; None when the version was never placed."""
    superseded: bool
    """A higher version was placed before."""


class Placements:
    """Image numbers and, per image, its entries. One thread writes, any number read meanwhile."""

    def __init__(self) -> None:
        """Nothing is placed."""
        self._number_of: dict[ImageId, int] = {}
        self._ids: list[ImageId] = []
        self._latest: list[int] = []
        """Per image: its latest entry."""
        self._versions: list[int] = []
        """Per entry."""
        self._removed: list[bool] = []
        """Per entry: it deleted the image."""
        self._older: list[int] = []
        """Per entry: the entry of the image's version before it, -1 for none."""
        self._places: list[int] = []
        """Per entry."""

    def image_id(self, number: int) -> ImageId:
        """The id of an image number."""
        return self._ids[number]

    def place(self, entry: int) -> int:
        """The place of an entry."""
        return self._places[entry]

    def removed(self, entry: int) -> bool:
        """Whether an entry deleted its image."""
        return self._removed[entry]

    def latest_version(self, image_id: ImageId) -> int | None:
        """The highest version placed."""
        number = self._number_of.get(image_id)
        return None if number is None else self._versions[self._latest[number]]

    def add(self, image_id: ImageId, version: int, place: int, removed: bool = False) -> tuple[int, int]:
        """Gives the next entry to a version that is higher than all before.

        Returns:
            The image's number, and the entry of its version before this one (-1 for none).
        """
        entry = len(self._versions)
        number = self._number_of.get(image_id)
        older = -1 if number is None else self._latest[number]
        self._versions.append(version)
        self._removed.append(removed)
        self._older.append(older)
        self._places.append(place)
        # Readers come in through the two steps below, when the rest is there.
        if number is None:
            number = len(self._ids)
            self._ids.append(image_id)
            self._latest.append(entry)
            self._number_of[image_id] = number
        else:
            self._latest[number] = entry
        return number, older

    def latest(self, image_id: ImageId) -> tuple[int, int] | None:
        """The entry of the version that was placed last, and that version; None for an unknown image."""
        number = self._number_of.get(image_id)
        return None if number is None else (self._latest[number], self._versions[self._latest[number]])

    def find(self, image_id: ImageId, version: int, offset: int) -> Placed:
        """What the record of a version at an offset meets; the same for ever once the offset was applied.

        Args:
            image_id: Of the record.
            version: Of the record.
            offset: Of the record; entries placed behind it do not count.
        """
        number = self._number_of.get(image_id)
        entry = -1 if number is None else self._latest[number]
        superseded = False
        while entry >= 0 and self._versions[entry] >= version:
            if self._places[entry] <= offset:
                if self._versions[entry] == version:
                    return Placed(entry, superseded)
                superseded = True
            entry = self._older[entry]
        return Placed(None, superseded)
