"""Bulk moves: overrides and forgets that move more images than one write can carry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neardup.calls import Answering, ApiCalls
from neardup.records import known_values

__all__ = ["OperationCalls", "OperationInfo", "OperationsPage"]

_OPERATIONS = 1000
"""The most bulk moves of one page."""


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """A bulk move, and how far it is."""

    number: int
    """From 1, as they begin; while it is planned, the one that it will have."""
    kind: str | None
    """Of its override: pin, merge, rollback or undo; None while that is planned. Or forget."""
    state: str
    """planning (nobody sees it yet), moving (all readers see the whole of it), paused or done."""
    images: int
    """How many images move, as far as it is planned."""
    moved: int
    """How many of them are rewritten."""
    history_first: int | None
    """The number of its first change of heads; None while it is planned."""
    started: str
    """When its planning began, or, once all readers see it, since when: ISO 8601, UTC."""
    ended: str | None
    """When all records were rewritten."""
    override: int | None
    """The number of its override; while it is planned, the one that it will have. None of a forget."""
    position: int | None
    """Of the record that forgets the head of a large cluster; None of an override."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OperationInfo:
        """Reads the answer of `/v1/operations/{number}`."""
        return cls(**known_values(cls, data))


@dataclass(frozen=True, slots=True)
class OperationsPage:
    """A page of bulk moves, by number."""

    operations: tuple[OperationInfo, ...]
    next_after: int | None
    """The `after` of the next page; None: this is the last."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OperationsPage:
        """Reads the answer of `/v1/operations`."""
        return cls(**known_values(cls, data, operations=lambda found: tuple(map(OperationInfo.from_json, found))))


class OperationCalls:
    """The part of `ApiClient` on bulk moves."""

    _calls: ApiCalls
    _operations: Answering
    page_size: int

    def operations_page(self, after: int = 0, limit: int | None = None) -> OperationsPage:
        """One page of the bulk moves with numbers above `after`; without a limit the service chooses the size.

        Raises:
            BadRequestError: The limit is refused.
            SwitchedError: `after` is a number of another signal.
            NeardupClientError: See `neardup.errors`.
        """
        return self._operations_page(after, limit, self._operations if after else Answering())

    def _operations_page(self, after: int, limit: int | None, answering: Answering) -> OperationsPage:
        page = self._calls.get(OperationsPage.from_json, "/v1/operations", answering, after=after, limit=limit)
        self._operations = answering
        return page

    def operations(self) -> Iterator[OperationInfo]:
        """All bulk moves by number, read page by page as they are taken.

        Raises:
            NeardupClientError: As `operations_page`, while it is iterated.
        """
        after: int | None = 0
        answering = Answering()
        while after is not None:
            page = self._operations_page(after, min(self.page_size, _OPERATIONS), answering)
            yield from page.operations
            after = page.next_after

    def operation_of(self, number: int) -> OperationInfo:
        """The bulk move with a number.

        Raises:
            NotFoundError: There is none.
            SwitchedError: The alias names another signal than the one that gave the last numbers.
            NeardupClientError: See `neardup.errors`.
        """
        return self._calls.get(OperationInfo.from_json, f"/v1/operations/{number}", self._operations)

    def pause_operation(self, number: int) -> OperationInfo:
        """The rewriting of the records of a bulk move rests. Readers see the whole move all the same.

        Raises:
            NotFoundError: There is none.
            BadRequestError: It is not under way.
            SwitchedError: The alias names another signal than the one that gave the last numbers.
            NeardupClientError: See `neardup.errors`; among others, the key is not the one for writing.
        """
        return self._steered(number, "pause")

    def resume_operation(self, number: int) -> OperationInfo:
        """The rewriting goes on.

        Raises:
            NeardupClientError: As `pause_operation`.
        """
        return self._steered(number, "resume")

    def cancel_operation(self, number: int) -> OperationInfo:
        """Ends the planning of a bulk move: nothing moves, and no override is kept. Undo one that has begun.

        Raises:
            NotFoundError: There is none, or it was cancelled by a call whose answer was lost.
            BadRequestError: It is not being planned, or is a forget.
            SwitchedError: The alias names another signal than the one that gave the last numbers.
            NeardupClientError: See `neardup.errors`; among others, the key is not the one for writing.
        """
        return self._steered(number, "cancel")

    def _steered(self, number: int, word: str) -> OperationInfo:
        return self._calls.post(OperationInfo.from_json, f"/v1/operations/{number}:{word}", {}, self._operations)
