"""The JSON of bulk moves that the HTTP API sends. `docs/openapi.json` is made from it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from storage.api.schemas import iso
from storage.operation_pages import ListedOperation, OperationPage

__all__ = ["OperationOut", "OperationsOut"]


class OperationOut(BaseModel):
    """A bulk move: an override or a forget that moves more images than one write can carry."""

    model_config = ConfigDict(frozen=True)

    number: int = Field(description="From 1, as they begin. While it is planned, the one that it will have.")
    kind: str | None = Field(
        description="Of its override: pin, merge, rollback or undo. Null while that is planned. Or `forget`."
    )
    override: int | None = Field(
        description="The number of its override; while it is planned, the one that it will have. Null of a forget."
    )
    position: int | None = Field(
        description="The position of the record that forgets the head of a large cluster. Null of an override."
    )
    state: str = Field(
        description="`planning`: nobody sees it yet. `moving`: all readers see the whole of it, and its records are "
        "rewritten. `paused`: the rewriting rests. `done`: all are rewritten."
    )
    images: int = Field(description="How many images move, as far as it is planned.")
    moved: int = Field(description="How many of them are rewritten.")
    history_first: int | None = Field(
        description="The number of its first change of heads. The others follow as the records are rewritten. Null "
        "while it is planned."
    )
    started: str = Field(description="When its planning began, or, once all readers see it, since when: ISO 8601, UTC.")
    ended: str | None = Field(description="When all records were rewritten.")

    @staticmethod
    def of(listed: ListedOperation) -> OperationOut:
        """From the store's record."""
        operation = listed.operation
        return OperationOut(
            number=operation.number,
            kind=listed.kind,
            override=operation.override,
            position=operation.position,
            state=operation.state,
            images=operation.total,
            moved=operation.moved,
            history_first=operation.first or None,
            started=iso(operation.started_ms),
            ended=None if operation.ended_ms is None else iso(operation.ended_ms),
        )


class OperationsOut(BaseModel):
    """A page of bulk moves, by number."""

    model_config = ConfigDict(frozen=True)

    operations: list[OperationOut]
    next_after: int | None = Field(description="The `after` of the next page; null on the last.")

    @staticmethod
    def of(page: OperationPage) -> OperationsOut:
        """From the store's page."""
        return OperationsOut(
            operations=[OperationOut.of(each) for each in page.items],
            next_after=page.items[-1].operation.number if page.more else None,
        )
