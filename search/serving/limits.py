"""The limits of one call. A call that exceeds one is refused before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import BadInputError
from core.notifications import MAX_ID_BYTES
from search.ranking import Order, Ranking, page_of
from search.serving.search_pb2 import MoreQuery, SearchQuery

__all__ = ["SearchLimits"]

MAX_ITEMS = 1024
"""The most entries, queries or ids of one call; fewer if their answer might not fit into a message."""

MAX_CANDIDATES = 10_000
"""The largest k of one free search."""

MAX_AFTER = 1_000_000
"""The most candidates that a search may skip."""

MAX_ORDERED = 10_000_000
"""The most candidates that the searches of one call rank together, with those that they skip. The memory is 100 MB, and
twice that while one part of the index is searched. Every search of a call gets as much room as the largest one."""

_CANDIDATE_BYTES = MAX_ID_BYTES + 16
"""The most bytes of one candidate in an answer, without its code."""

_ANSWER_BYTES = 128
"""The most bytes of an answer, without candidates and code."""


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """What one call may ask for, so that its answer fits into a message even with the longest ids."""

    max_message_bytes: int
    groups: int
    """Terms of an image."""
    ranking: Ranking
    """How many candidates the index gives, and how many images it compares for them."""
    code_bytes: int
    max_postings: int
    """The bound on the work of one search."""

    @property
    def max_items(self) -> int:
        """The most entries, queries or ids of one call; 0 when even a single answer might not fit."""
        fitting = self.max_message_bytes // self._answer_bytes(self.ranking.candidates)
        return min(MAX_ITEMS, MAX_ORDERED // max(1, self._compared), fitting)

    @property
    def max_candidates(self) -> int:
        """The most candidates that the answers of one call may have together."""
        return self.max_message_bytes // (_CANDIDATE_BYTES + self.code_bytes)

    def check_items(self, items: int) -> None:
        """Refuses a call of too many items.

        Raises:
            BadInputError: With both numbers.
        """
        if items > self.max_items:
            raise BadInputError(f"a call takes at most {self.max_items} items, not {items}")

    def check_query(self, number: int, query: SearchQuery) -> None:
        """Refuses a free search that asks for too much or is not valid.

        Raises:
            BadInputError: The message names the query and has both numbers.
        """
        k, after = query.k, query.after
        if query.WhichOneof("what") is None:
            raise BadInputError(f"query {number} has neither an image id nor a vector")
        if k > MAX_CANDIDATES:
            raise BadInputError(f"query {number}: k is at most {MAX_CANDIDATES}, not {k}")
        self._check_after(number, after)
        if query.HasField("score") and not query.HasField("vector"):
            raise BadInputError(f"query {number} has a score embedding without a search embedding")
        if query.min_overlap > self.groups:
            raise BadInputError(
                f"query {number}: an overlap is at most the {self.groups} groups, not {query.min_overlap}"
            )
        if query.HasField("as_of") and query.as_of < 0:
            raise BadInputError(f"query {number}: places start at 0, not at {query.as_of}")

    def check_more(self, queries: Sequence[MoreQuery]) -> None:
        """Refuses a call for further candidates that skips or brings too many.

        Raises:
            BadInputError: With both numbers.
        """
        for number, query in enumerate(queries):
            self._check_after(number, query.after)
        pages = [page_of(self.ranking, query.after) for query in queries]
        self.check_candidates(sum(pages))
        self.check_ordered([query.after + page for query, page in zip(queries, pages, strict=True)])

    def check_ordered(self, lasts: Sequence[int]) -> None:
        """Refuses a call whose searches would need too much memory together.

        Args:
            lasts: For each search the number of its last candidate: `after` and k together. A search that compares
                codes ranks `depth` images whatever it returns.

        Raises:
            BadInputError: With both numbers.
        """
        furthest = max([self._compared, *lasts])
        if len(lasts) * furthest > MAX_ORDERED:
            raise BadInputError(
                f"{len(lasts)} queries, one of which ranks {furthest} candidates (depth, or after and k), rank "
                f"{len(lasts) * furthest} candidates; a call may rank {MAX_ORDERED}: send fewer queries together"
            )

    def check_candidates(self, candidates: int) -> None:
        """Refuses a call whose answers might not fit into a message.

        Raises:
            BadInputError: With both numbers.
        """
        if candidates > self.max_candidates:
            raise BadInputError(
                f"the queries of a call ask for at most {self.max_candidates} candidates together, not {candidates}: "
                "send fewer, or ask for fewer"
            )

    @property
    def _compared(self) -> int:
        """How many images each search ranks to compare their codes."""
        return self.ranking.depth if self.ranking.order is Order.DISTANCE else 0

    @staticmethod
    def _check_after(number: int, after: int) -> None:
        if after > MAX_AFTER:
            raise BadInputError(f"query {number}: after is at most {MAX_AFTER}, not {after}")

    def _answer_bytes(self, candidates: int) -> int:
        own = _ANSWER_BYTES + self.code_bytes + 4 * self.groups  # an answer may tell the terms
        return own + candidates * (_CANDIDATE_BYTES + self.code_bytes)
