"""Pages of bulk moves, each with what is behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import BadInputError
from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore
from storage.limits import MAX_I64, MAX_OPERATIONS
from storage.override_pages import override_of

__all__ = [
    "FORGET",
    "ListedOperation",
    "OperationPage",
    "listed_operation",
    "operation_of",
    "operation_of_override",
    "operation_page",
]


FORGET = "forget"
"""The kind of a bulk move that a record of the order asks for: it forgets the head of a large cluster."""

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class ListedOperation:
    """A bulk move, and what it is for."""

    operation: Operation
    kind: str | None
    """That of its override, or `FORGET`; None: it is planned, so there is no override yet."""


@dataclass(frozen=True, slots=True)
class OperationPage:
    """Some bulk moves, by number."""

    items: tuple[ListedOperation, ...]
    more: bool
    """Others follow."""


def operation_page(store: ClusterStore, after: int, limit: int) -> OperationPage:
    """The bulk moves with numbers above `after`, at most `limit` of them.

    Args:
        store: Holds them.
        after: The number of the last one that the caller has.
        limit: 1 to 1,000.

    Raises:
        BadInputError: The limit is out of range.
    """
    if not 1 <= limit <= MAX_OPERATIONS:
        raise BadInputError(f"a page has 1 to {MAX_OPERATIONS} operations, not {limit}")
    found = store.operations(min(after, MAX_I64), limit + 1)
    return OperationPage(tuple(_listed(store, each) for each in found[:limit]), more=len(found) > limit)


def operation_of(store: ClusterStore, number: int) -> Operation | None:
    """The bulk move with this number; None: there is none."""
    found = next(iter(store.operations(number - 1, 1)), None)
    return found if found is not None and found.number == number else None


def operation_of_override(operations: Callable[[int, int], Sequence[Operation]], number: int) -> Operation | None:
    """The bulk move of the override with this number; None: there is none, or it is planned.

    Args:
        operations: Gives the bulk moves with numbers above the first argument, at most as many as the second.
        number: Of the override. Bulk moves have numbers of their own.
    """
    after = 0
    while found := operations(after, _PAGE):
        after = found[-1].number
        for each in found:
            if each.override == number and each.state is not OperationState.PLANNING:
                return each
    return None


def listed_operation(store: ClusterStore, number: int) -> ListedOperation | None:
    """The same with what it is for."""
    found = operation_of(store, number)
    return None if found is None else _listed(store, found)


def _listed(store: ClusterStore, operation: Operation) -> ListedOperation:
    if operation.override is None:
        return ListedOperation(operation, FORGET)
    if operation.state is OperationState.PLANNING:  # another override may take its number yet
        return ListedOperation(operation, None)
    override = override_of(store, operation.override)
    return ListedOperation(operation, None if override is None else override.override.kind)
