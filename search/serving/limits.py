"""The sizes that the search server takes and gives: what is beyond them is refused before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import BadInputError
from core.notifications import MAX_ID_BYTES
from search.serving.search_pb2 import MoreQuery, SearchQuery

__all__ = ["SearchLimits"]

MAX_ITEMS = 1024
"""Entries, queries or ids of one call at most; fewer where their answer might not fit into a message."""

MAX_CANDIDATES = 10_000
"""k of one free search at most."""

MAX_AFTER = 1_000_000
"""How many candidates a search may pass over."""

MAX_ORDERED = 10_000_000
"""Candidates that the searches of one call may have ordered for them, those passed over among them: 100 MB, and as much
again while one part of the index is searched. All have as much room as the one that goes furthest."""

_CANDIDATE_BYTES = MAX_ID_BYTES + 16
"""The most bytes of one candidate in an answer, but for its code."""

_ANSWER_BYTES = 128
"""The most bytes of an answer, but for candidates and code."""


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """What one call may ask for, so that its answer fits into a message whatever the ids are."""

    max_message_bytes: int
    groups: int
    """Terms of an image."""
    candidates: int
    """k of the index."""
    code_bytes: int

    @property
    def max_items(self) -> int:
        """Entries, queries or ids of one call at most; 0 when not even one answer is sure to fit."""
        return min(MAX_ITEMS, self.max_message_bytes // self._answer_bytes(self.candidates))

    def check_items(self, items: int) -> None:
        """Refuses a call of too many items.

        Raises:
            BadInputError: With both numbers.
        """
        if items > self.max_items:
            raise BadInputError(f"a call takes at most {self.max_items} items, not {items}")

    def check_query(self, number: int, query: SearchQuery) -> None:
        """Refuses a free search of a call that wants too much, or makes no sense.

        Raises:
            BadInputError: It names the query, and has both numbers.
        """
        k, after = query.k, query.after
        if query.WhichOneof("what") is None:
            raise BadInputError(f"query {number} names neither an image nor a vector")
        if k > MAX_CANDIDATES:
            raise BadInputError(f"query {number}: k is at most {MAX_CANDIDATES}, not {k}")
        self._check_after(number, after)
        if query.min_overlap > self.groups:
            raise BadInputError(
                f"query {number}: an overlap is at most the {self.groups} groups, not {query.min_overlap}"
            )
        if query.HasField("as_of") and query.as_of < 0:
            raise BadInputError(f"query {number}: places start at 0, not at {query.as_of}")

    def check_more(self, queries: Sequence[MoreQuery]) -> None:
        """Refuses a call for further candidates that goes too far.

        Raises:
            BadInputError: With both numbers.
        """
        for number, query in enumerate(queries):
            self._check_after(number, query.after)
        self.check_ordered([query.after + self.candidates for query in queries])

    def check_ordered(self, lasts: Sequence[int]) -> None:
        """Refuses a call whose searches would need too much room together.

        Args:
            lasts: For each the last candidate that it asks for: `after` and k together.

        Raises:
            BadInputError: With both numbers.
        """
        furthest = max(lasts, default=0)
        if len(lasts) * furthest > MAX_ORDERED:
            raise BadInputError(
                f"{len(lasts)} queries of which one goes up to candidate {furthest} (after and k together) need "
                f"{len(lasts) * furthest} places, a call has at most {MAX_ORDERED}: send fewer together"
            )

    def check_candidates(self, candidates: int) -> None:
        """Refuses a call whose answers might hold so many candidates that they do not fit into a message.

        Raises:
            BadInputError: With both numbers.
        """
        most = self.max_message_bytes // (_CANDIDATE_BYTES + self.code_bytes)
        if candidates > most:
            raise BadInputError(
                f"the queries of a call ask for at most {most} candidates together, not {candidates}: "
                "send fewer, or ask for fewer"
            )

    @staticmethod
    def _check_after(number: int, after: int) -> None:
        if after > MAX_AFTER:
            raise BadInputError(f"query {number}: at most {MAX_AFTER} candidates are passed over, not {after}")

    def _answer_bytes(self, candidates: int) -> int:
        return _ANSWER_BYTES + self.code_bytes + candidates * (_CANDIDATE_BYTES + self.code_bytes)
