"""The data that the cluster rule needs, from the clients of the three servers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from clustering.assignment import More, MoreNeed, PairNeed
from core.errors import FaultError
from core.log_epochs import check_base
from core.overrides import JOB_KINDS
from core.traces import HistoryRange
from core.types import Decision, ImageId, Lookup
from operators.clients import Scorer, Search, Storage, storage_waited_for
from operators.responses import candidates, scores
from scoring.serving.scorer_pb2 import PairBlock
from search.serving.search_pb2 import MoreQuery

__all__ = ["MAX_PAIRS", "GrpcBackend"]

MAX_PAIRS = 8_192
"""The most pairs of one call to the scorer; more are split over several. A batch of 64 images with 20 candidates
each has 1,280, a further page of each 6,400."""


class GrpcBackend:
    """Implements `clustering.assignment.Backend`."""

    def __init__(
        self,
        search: Search,
        scorer: Scorer,
        storage: Storage,
        log_id: str,
        written: Callable[[Sequence[Decision]], None],
        base: int = 0,
    ) -> None:
        """Takes the clients.

        Args:
            search: For further candidates.
            scorer: For scores of pairs.
            storage: Look-ups and writes.
            log_id: Of `joined`.
            written: Told of the decisions of each write that succeeded.
            base: The position of the offset 0 of `joined`.
        """
        self._search = search
        self._scorer = scorer
        self._storage = storage
        self._log_id = log_id
        self._written = written
        self._base = base
        self._last: Sequence[Decision] = ()

    def look_up(self, ids: Collection[ImageId], verdicts_of: Collection[ImageId]) -> Lookup:
        """Memberships and clusters of these images, and the last verdicts on some.

        Raises:
            LogGapError: Storage counts the positions of the order from another one than the job.
        """
        with storage_waited_for():
            found = self._storage.look_up(ids, verdicts_of)
        check_base(found.position, self._log_id, self._base)
        return found

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        """The scores of these pairs."""
        found: dict[PairNeed, float] = {}
        for version, by_left in _by_version_and_left(pairs).items():
            for blocks in _calls(by_left):
                wire = [PairBlock(query_code=b[0].left, candidate_codes=b"".join(p.right for p in b)) for b in blocks]
                response = self._scorer.score(wire, version)
                if response.model_version != version or len(response.scores) != len(blocks):
                    raise FaultError(
                        f"the scorer answered {len(response.scores)} of {len(blocks)} blocks by model version "
                        f"{response.model_version!r}, asked was {version!r}"
                    )
                for block, packed in zip(blocks, response.scores, strict=True):
                    found.update(zip(block, scores(packed, len(block)), strict=True))
        return found

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        """The next candidates of these images."""
        response = self._search.search_more([_query(need) for need in needs])
        if len(response.answers) != len(needs):
            raise FaultError(f"the search server answered {len(response.answers)} of {len(needs)} queries")
        return {
            need: More(candidates(answer), answer.exhausted)
            for need, answer in zip(needs, response.answers, strict=True)
        }

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        """Writes the decisions, all or none."""
        with storage_waited_for():
            self._storage.apply(self._log_id, decisions, offset, revision, JOB_KINDS)
        self._last = decisions
        self._written(decisions)

    def numbers(self, decision: Decision) -> HistoryRange | None:
        """The history numbers of a decision of the last write; None if it moved nothing."""
        if decision.forget:
            return None  # it may have renamed a cluster, which only storage knows
        later = 0
        for each in reversed(self._last):
            if each.offset == decision.offset:
                break
            later += len(each.moves)
        last = self._storage.history_number - later
        return HistoryRange(last - len(decision.moves) + 1, last) if decision.moves else None


def _query(need: MoreNeed) -> MoreQuery:
    return MoreQuery(place=need.place, after=need.after, as_of=None if need.as_of == need.place else need.as_of)


def _by_version_and_left(pairs: Sequence[PairNeed]) -> dict[str, dict[bytes, list[PairNeed]]]:
    grouped: dict[str, dict[bytes, list[PairNeed]]] = {}
    for pair in pairs:
        grouped.setdefault(pair.model_version, {}).setdefault(pair.left, []).append(pair)
    return grouped


def _calls(by_left: Mapping[bytes, list[PairNeed]]) -> Iterator[list[list[PairNeed]]]:
    """The blocks of each call: pairs of equal left code, at most `MAX_PAIRS` in all."""
    blocks: list[list[PairNeed]] = []
    room = MAX_PAIRS
    for pairs in by_left.values():
        start = 0
        while start < len(pairs):
            block = pairs[start : start + room]
            blocks.append(block)
            start += len(block)
            room -= len(block)
            if not room:
                yield blocks
                blocks, room = [], MAX_PAIRS
    if blocks:
        yield blocks
