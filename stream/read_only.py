"""Deciding outside the order: what the rule needs comes from calls that write nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from clustering.assignment import More, MoreNeed
from core.types import Decision, ImageId, Lookup
from operators.assign_backend import GrpcBackend
from operators.responses import candidates
from scoring.serving import scorer_pb2
from search.serving import search_pb2

__all__ = ["FreeSearch", "Lookups", "PairScorer", "ReadOnlyBackend"]


class FreeSearch(Protocol):
    """What is asked of the search server."""

    def search(self, queries: Sequence[search_pb2.SearchQuery]) -> search_pb2.SearchResponse:
        """Searches that insert nothing."""
        ...


class PairScorer(Protocol):
    """What is asked of the scorer."""

    def score(self, blocks: Sequence[scorer_pb2.PairBlock], model_version: str = "") -> scorer_pb2.ScoreResponse:
        """Scores of pairs of codes."""
        ...


class Lookups(Protocol):
    """What is asked of the store."""

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId] = ()) -> Lookup:
        """Memberships and clusters of images, as of one moment."""
        ...


class ReadOnlyBackend(GrpcBackend):
    """The data that the rule needs for a record that is in no order. Subclasses say how further pages are asked for."""

    def __init__(self, search: FreeSearch, scorer: PairScorer, storage: Lookups) -> None:
        """Takes the clients."""
        super().__init__(search, scorer, storage, "", _tell_nobody)  # type: ignore[arg-type]
        self._free = search

    def query(self, need: MoreNeed) -> search_pb2.SearchQuery:
        """The search for the candidates behind those that are known."""
        raise NotImplementedError

    def searched(self, queries: Sequence[search_pb2.SearchQuery]) -> search_pb2.SearchResponse:
        """Searches that insert nothing."""
        return self._free.search(queries)

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        """The next candidates, by free searches."""
        answers = self.searched([self.query(need) for need in needs]).answers
        pages = (More(candidates(answer.candidates), answer.candidates.exhausted) for answer in answers)
        return dict(zip(needs, pages, strict=True))

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Nothing is written."""


def _tell_nobody(decisions: Sequence[Decision]) -> None: ...
