"""Rollbacks: what a caller wants to go back to, and what the service has made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from neardup.errors import BadRequestError
from neardup.records import known_values

__all__ = ["ChangeFilter", "RollbackInfo", "RollbackPoint", "RollbackRequest", "epoch_ms"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_ms(time: datetime | int) -> int:
    """A time in milliseconds since the epoch. Nothing was before, so it is 0 then.

    Raises:
        BadRequestError: It has no zone.
    """
    if isinstance(time, int):
        return max(0, time)
    if time.tzinfo is None:
        raise BadRequestError(f"a time has a zone, this one has none: {time.isoformat()}")
    return max(0, (time - _EPOCH) // timedelta(milliseconds=1))


@dataclass(frozen=True, slots=True)
class ChangeFilter:
    """Which changes a rollback is about: those that have all of what is set."""

    model: str | None = None
    """The version of the model that decided it."""
    head: str | None = None
    """The image left this head, or came to it."""
    cause: str | None = None
    """As `HeadChange` has it."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ChangeFilter:
        """Reads `where` of a rollback."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class RollbackRequest:
    """What to go back to: a time or a change, one of them."""

    to: datetime | int | None = None
    """With a zone, or milliseconds since the epoch. The clock is that of the service."""
    to_change: int | None = None
    """The history number of the last change that stays; 0: none stays."""
    since: datetime | int | None = None
    """Only images that changed after this time too."""
    where: ChangeFilter = ChangeFilter()
    new: str = "decide"
    """What becomes of images that came after it: `decide` (each is decided again) or `keep` (its head)."""

    def as_json(self) -> dict[str, Any]:
        """As `rollback` of the request `POST /v1/overrides` has it.

        Raises:
            BadRequestError: A time has no zone.
        """
        said = {
            "to": None if self.to is None else epoch_ms(self.to),
            "to_change": self.to_change,
            "since": None if self.since is None else epoch_ms(self.since),
            "where": asdict(self.where),
            "new": self.new,
        }
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RollbackPoint:
    """A moment between two writes, by what was applied before it."""

    position: int
    """Of the last record of the order; -1: none."""
    override: int | None
    """The last override, if it was applied after that record."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RollbackPoint:
        """Reads `to` or `since` of a rollback."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class RollbackInfo:
    """To which moment images went back, and which ones: those that had changed since, by a change that counts."""

    to: RollbackPoint
    since: RollbackPoint
    """Only changes after this moment count."""
    where: ChangeFilter
    new: str
    """decide or keep."""
    of: int | None
    """Of the undo of a rollback: only changes by the override of this number count."""
    until: RollbackPoint | None
    """Changes after this moment do not count; None: all do."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RollbackInfo:
        """Reads `rollback` of an override."""
        point = RollbackPoint.from_json
        return cls(
            **known_values(
                cls,
                data,
                to=point,
                since=point,
                where=ChangeFilter.from_json,
                until=lambda found: None if found is None else point(found),
            )
        )
