"""The index hides an image from later searches only after storage holds it as unscored.

So a record that is tried again after a crash, and is scored then, is never hidden: nothing had hidden it. The other way
round, what storage holds as unscored becomes hidden even if the job dies in between: each report of what storage has
committed first hides what storage names, and the index keeps the last offset that was reported (`released`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from core.errors import NeardupError, RefusedError
from core.types import NO_OFFSET, Cause, Decision
from operators.clients import Search, Storage

__all__ = ["Hiding"]

log = logging.getLogger(__name__)


class Hiding:
    """Keeps the index in step with what storage holds as unscored."""

    def __init__(self, search: Search, storage: Storage) -> None:
        """Takes the clients."""
        self._search = search
        self._storage = storage
        self._through = NO_OFFSET
        """Everything unscored up to this offset is hidden in the index as it was at the last call."""
        self._released = NO_OFFSET

    def written(self, decisions: Sequence[Decision]) -> bool:
        """Hides the unscored images among decisions that storage has taken; False if `catch_up` has to do it."""
        try:
            for decision in decisions:
                if decision.moves and decision.moves[0].cause is Cause.UNSCORED:
                    self._hide(decision.place)
        except NeardupError as error:
            log.info("an unscored image is not hidden yet: %s", error)
            return False
        return True

    def catch_up(self) -> bool:
        """Hides what storage names as unscored after the offset that the index keeps; False if there is more to do.

        An index that was opened again or built anew may keep an earlier offset than before.

        Raises:
            ServiceError: A server did not answer; the next call goes on.
        """
        released = self._search.describe().released
        self._through = released if released < self._released else max(self._through, released)
        self._released = released
        found = self._storage.unscored(self._through)
        for place in found.places:
            self._hide(place)
        self._through = found.through
        return found.complete

    def _hide(self, place: int) -> None:
        try:
            self._search.hide(place)
        except RefusedError:
            return  # the index skipped the record, so it has no image at that place
