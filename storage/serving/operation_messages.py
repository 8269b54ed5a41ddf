"""Conversion between bulk moves and the messages of `storage.proto`."""

from __future__ import annotations

from storage.bulk.operations import Operation, OperationState
from storage.operation_pages import ListedOperation, OperationPage
from storage.serving import storage_pb2 as pb

__all__ = ["operation_page_message", "operation_page_of"]


def operation_page_message(page: OperationPage) -> pb.ListOperationsResponse:
    """A page of bulk moves as a message."""
    return pb.ListOperationsResponse(operations=map(_message, page.items), more=page.more)


def operation_page_of(message: pb.ListOperationsResponse) -> OperationPage:
    """A page of bulk moves from its message."""
    return OperationPage(tuple(map(_listed_of, message.operations)), message.more)


def _message(listed: ListedOperation) -> pb.Operation:
    operation = listed.operation
    return pb.Operation(
        number=operation.number,
        state=operation.state,
        total=operation.total,
        moved=operation.moved,
        first=operation.first,
        started_ms=operation.started_ms,
        ended_ms=operation.ended_ms,
        kind=listed.kind or "",
        override=operation.override,
        position=operation.position,
    )


def _listed_of(message: pb.Operation) -> ListedOperation:
    operation = Operation(
        number=message.number,
        state=OperationState(message.state),
        total=message.total,
        moved=message.moved,
        first=message.first,
        started_ms=message.started_ms,
        ended_ms=message.ended_ms if message.HasField("ended_ms") else None,
        override=message.override if message.HasField("override") else None,
        position=message.position if message.HasField("position") else None,
    )
    return ListedOperation(operation, message.kind or None)
