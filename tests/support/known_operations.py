"""A store whose bulk moves are a list: for tests of the doors, which only pass on what a store answers.

It moves nothing by itself: a test says how far each move is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.errors import BadInputError
from core.overrides import JOB_KINDS, OverrideKind, OverrideRequest
from core.types import ImageId
from storage.bulk.operations import Operation, OperationState
from storage.memory import MemoryStore
from storage.testing.decisions import A, B, C, founds, joins, put

__all__ = ["AT_MS", "DONE", "FORGETTING", "MOVING", "PLANNING", "KnownOperations", "filled_operations"]

AT_MS = 1_764_331_200_123

DONE = Operation(1, OperationState.DONE, 20_000, 20_000, 5, AT_MS, AT_MS + 4_000, override=1)
MOVING = Operation(2, OperationState.MOVING, 1_100_000, 412_000, 20_005, AT_MS, override=2)
FORGETTING = Operation(5, OperationState.PLANNING, 7_000, 0, 0, AT_MS, position=204)
PLANNING = Operation(4, OperationState.PLANNING, 30_000, 0, 0, AT_MS, override=4)


class KnownOperations(MemoryStore):
    """Has the moves that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: dict[int, Operation] = {}

    def operations(self, after: int, limit: int) -> Sequence[Operation]:
        """Those of the list."""
        return [each for number, each in sorted(self.moves.items()) if number > after][:limit]

    def pause(self, number: int, *, rests: bool) -> None:
        """As a store does it."""
        found = self.moves.get(number)
        if found is None or found.state not in (OperationState.MOVING, OperationState.PAUSED):
            super().pause(number, rests=rests)
        else:
            self.moves[number] = replace(found, state=OperationState.PAUSED if rests else OperationState.MOVING)

    def cancel(self, number: int) -> None:
        """As a store does it, which ends the planning at its next step."""
        found = self.moves.get(number)
        if found is None or found.state is not OperationState.PLANNING:
            raise BadInputError(f"no bulk move {number} is being planned")
        del self.moves[number]


def filled_operations() -> KnownOperations:
    """A pin that is over, a merge that moves, a forbid, which is no bulk move, and one that is planned."""
    store = KnownOperations()
    put(store, founds(0, A), joins(1, B, A), founds(2, C), kinds=JOB_KINDS)
    for kind, image, target in ((OverrideKind.PIN, B, A), (OverrideKind.MERGE, C, A)):
        store.override(OverrideRequest(kind, (image,), target), AT_MS)
    store.override(OverrideRequest(OverrideKind.FORBID, (ImageId("d"),), A), AT_MS)
    store.moves = {each.number: each for each in (DONE, MOVING, PLANNING)}
    return store
