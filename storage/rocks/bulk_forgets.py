"""Forgetting a head with more members than one write can carry: a bulk move that a record of the order asks for.

The stream waits while it is planned, so nobody else writes. So history is written ahead too, with the numbers that it
has in one write, and one write makes all of it visible: the decision, what it erases, its position, and the history.
Afterwards images and edges alone are rewritten, as those of every bulk move (`storage.rocks.bulk_store`).

A bulk move that is under way is settled to its end first, within the same call: that needs nobody else, so the forget
can neither be blocked nor overtaken for ever, also behind a move that rests. A plan becomes void.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import chain, islice

from core.errors import UnavailableError
from core.types import Decision
from storage import codec
from storage.bulk.operations import Operation, OperationState
from storage.bulk.renaming import RenamedImage, Renaming
from storage.records import HistoryEntry
from storage.rocks.bulk_store import AT_ONCE, COMPACTED, BulkStore, begun_with
from storage.rocks.database import Write
from storage.staging import stage

__all__ = ["BulkForgets", "history_rows", "of_image"]

log = logging.getLogger(__name__)

AHEAD_AT_ONCE = 1_000
"""Images of one write of the plan."""

TOLD_EVERY = 100_000
"""Images after which the log says how far the plan is."""


class BulkForgets(BulkStore):
    """The part of `RocksStore` on heads that are forgotten."""

    def _forget_in_bulk(self, log_id: str, decision: Decision, kinds: frozenset[str]) -> None:
        self._forgetting = self._begun_planning(decision)
        try:
            self._settle_rest()
            self._drop_plan()
            with self.snapshot() as view:
                renaming = Renaming(view, decision)
                changes = stage(view, view.state(), log_id, [decision], renaming.stage)
                planned = self._write_renaming(decision, renaming)
            changes.state = replace(changes.state, kinds=kinds)
            moving = replace(
                planned, state=OperationState.MOVING, moved=1, first=renaming.first, started_ms=self._now_ms()
            )
            self._many.before_bulk_move(changes.state)
            self._commit_told(changes, lambda told: self._commit_with(told, begun_with(moving)))
            self._moving, self._next_row = moving, b""
        finally:
            self._forgetting = None
            self._drop_void()
        if renaming.total > COMPACTED:
            self._left.append(decision.image_id)
        log.info("the bulk move %d has begun: %d images", moving.number, moving.total)

    def _check_free(self) -> None:
        forgetting = self._forgetting
        if forgetting is not None:
            raise UnavailableError(
                f"a head is forgotten, and the stream waits until the bulk move {forgetting.number} is planned: "
                f"{forgetting.total} images so far",
                1.0,
            )

    def _begun_planning(self, decision: Decision) -> Operation:
        number = self._next_operation()
        return Operation(number, OperationState.PLANNING, 0, 0, 0, self._now_ms(), position=decision.offset)

    def _settle_rest(self) -> None:
        """Settles the bulk move under way to its end, even if it rests: the stream waits for that."""
        if self._moving is not None:
            log.warning("the bulk move %d is settled first, and the stream waits for it", self._moving.number)
        while self._moving is not None:
            if self._moving.state is OperationState.PAUSED:
                self._note(replace(self._moving, state=OperationState.MOVING))
            self.settle(AT_ONCE)

    def _write_renaming(self, decision: Decision, renaming: Renaming) -> Operation:
        """Writes all moves but the heir's where nobody reads them; returns the bulk move as it is planned."""
        planning = self._begun_planning(decision)
        log.warning(
            "the record at position %d forgets a head: the stream waits until the bulk move %d of %d images is planned",
            decision.offset,
            planning.number,
            renaming.total,
        )
        self._read_through_bulk(True)
        self._forgetting = planning = replace(planning, total=1)
        moves = renaming.rest()
        while some := list(islice(moves, AHEAD_AT_ONCE)):
            self._write(chain.from_iterable(map(_ahead, some)))
            self._forgetting = planning = replace(planning, total=planning.total + len(some))
            if planning.total % TOLD_EVERY < len(some):
                log.info(
                    "of the bulk move %d, %d images of %d are planned", planning.number, planning.total, renaming.total
                )
        return planning


def _ahead(move: RenamedImage) -> list[Write]:
    image, entry = move
    key = codec.image_key(image.image_id)
    planned: Write = ("planned", key, codec.encode_image(image))
    return [planned, ("edges", codec.edge_key(image.head, image.edge_sequence), key), *history_rows(entry)]


def history_rows(entry: HistoryEntry) -> list[Write]:
    """What is written of a history entry."""
    return [("history", codec.encode_number(entry.number), codec.encode_history(entry)), of_image(entry)]


def of_image(entry: HistoryEntry) -> Write:
    """The key by which the history of an image is found."""
    return "history_of", codec.edge_key(entry.image_id, entry.number), b""
