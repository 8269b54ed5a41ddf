"""The JSON of rollbacks that the HTTP API takes and sends. `docs/openapi.json` is made from it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from core.overrides import ChangeFilter, NewImages, Point, Rollback, RollbackRequest
from core.types import Cause, ImageId
from storage.api.times import time_ms

__all__ = ["RollbackIn", "RollbackOut"]

LARGEST = 2**63 - 1
"""Of a time or a history number, as far as a request may name one."""

Milliseconds = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]


class ChangeFilterIn(BaseModel):
    """Which changes a rollback is about: those that have all of what is given."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="The version of the model that decided it.")
    head: str | None = Field(default=None, description="The image left this head, or came to it.")
    cause: Cause | None = Field(default=None, description="The cause that it has in `assignments`.")


class RollbackIn(BaseModel):
    """What somebody wants to go back to: a time or a change."""

    model_config = ConfigDict(extra="forbid")

    to: str | Milliseconds | None = Field(
        default=None,
        description="A time: ISO 8601 with a zone, or milliseconds since the epoch. It is compared with the clock of "
        "the storage server, to the second.",
        examples=["2026-11-28T07:00:00Z"],
    )
    to_change: int | None = Field(
        default=None, ge=0, le=LARGEST, description="The history number of the last change that stays; 0: none stays."
    )
    since: str | Milliseconds | None = Field(
        default=None, description="Only images that changed after this time too, in the form of `to`."
    )
    where: ChangeFilterIn = ChangeFilterIn()
    new: NewImages = Field(
        default=NewImages.DECIDE,
        description="Images that came after it: each is decided again (`decide`), or keeps its head (`keep`).",
    )

    def request(self) -> RollbackRequest:
        """What the store is asked.

        Raises:
            BadInputError: A time has another form.
        """
        return RollbackRequest(
            to_ms=_ms(self.to),
            to_change=self.to_change,
            since_ms=_ms(self.since),
            where=ChangeFilter(
                self.where.model, None if self.where.head is None else ImageId(self.where.head), self.where.cause
            ),
            new=self.new,
        )


class PointOut(BaseModel):
    """A moment between two writes, by what was applied before it."""

    model_config = ConfigDict(frozen=True)

    position: int = Field(description="Of the last record of the order; -1: none.")
    override: int | None = Field(description="The last override, if it was applied after that record.")

    @staticmethod
    def of(point: Point) -> PointOut:
        """From the store's record."""
        return PointOut(position=point.position, override=point.override or None)


class ChangeFilterOut(BaseModel):
    """Which changes a rollback was about: those that have all of what is not null."""

    model_config = ConfigDict(frozen=True)

    model: str | None = Field(description="The version of the model that decided it.")
    head: str | None = Field(description="The image left this head, or came to it.")
    cause: str | None = Field(description="The cause that it has in `assignments`.")


class RollbackOut(BaseModel):
    """To which moment images went back, and which ones: those that had changed since, by a change that counts."""

    model_config = ConfigDict(frozen=True)

    to: PointOut
    since: PointOut = Field(description="Only changes after this moment count.")
    where: ChangeFilterOut
    new: str = Field(description="decide or keep.")
    of: int | None = Field(description="Of the undo of a rollback: only changes by the override of this number count.")
    until: PointOut | None = Field(description="Changes after this moment do not count; null: all do.")

    @staticmethod
    def of_rollback(rollback: Rollback) -> RollbackOut:
        """From the store's record."""
        where = rollback.where
        return RollbackOut(
            to=PointOut.of(rollback.to),
            since=PointOut.of(rollback.since),
            where=ChangeFilterOut(model=where.model, head=where.head, cause=where.cause),
            new=rollback.new.value,
            of=rollback.of or None,
            until=None if rollback.until is None else PointOut.of(rollback.until),
        )


def _ms(time: str | int | None) -> int | None:
    return None if time is None else time_ms(str(time))
