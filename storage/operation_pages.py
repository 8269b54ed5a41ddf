"""Pages of bulk moves, each with the kind of the override behind it."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import BadInputError
from core.overrides import OverrideKind
from storage.bulk.operations import Operation, OperationState
from storage.interfaces import ClusterStore
from storage.limits import MAX_I64, MAX_OPERATIONS
from storage.override_pages import override_of

__all__ = ["ListedOperation", "OperationPage", "listed_operation", "operation_of", "operation_page"]


@dataclass(frozen=True, slots=True)
class ListedOperation:
    """A bulk move, and what it is for."""

    operation: Operation
    kind: OverrideKind | None
    """Of its override; None: it is planned, so there is no override yet."""


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


def listed_operation(store: ClusterStore, number: int) -> ListedOperation | None:
    """The same with what it is for."""
    found = operation_of(store, number)
    return None if found is None else _listed(store, found)


def _listed(store: ClusterStore, operation: Operation) -> ListedOperation:
    if operation.state is OperationState.PLANNING:  # another override may take its number yet
        return ListedOperation(operation, None)
    override = override_of(store, operation.number)
    return ListedOperation(operation, None if override is None else override.override.kind)
