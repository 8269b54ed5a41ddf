"""A simulated stream: images arrive one by one, are searched, scored and assigned by the real rule, in memory.

Thresholds that concern whole clusters cannot be judged on pairs, so they are chosen on streams like the one that the
service will see. The rule is `search.clustering`, not a copy of it; only search and storage are replaced: the first by
ranked candidates over arrays, the second by two dictionaries. Every image comes once, in one version.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from search.clustering.assignment import Arrival, More, MoreNeed, PairNeed, assign
from search.scoring.candidates import RankedCandidates
from search.types import (
    Candidate,
    Cluster,
    Decision,
    ImageId,
    LogPosition,
    Lookup,
    Standing,
    Thresholds,
    Versions,
)

__all__ = ["PairScorer", "SimulatedStream"]

PairScorer = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
"""Scores of packed codes (n, bytes) against others."""

_BATCH = 64


class SimulatedStream:
    """One order of images with the candidates of each; runs under any thresholds, scores are made once."""

    def __init__(
        self,
        image_ids: Sequence[str],
        codes: NDArray[np.uint8],
        ranked: RankedCandidates,
        page: int,
        scorer: PairScorer,
    ) -> None:
        """Scores all first pages of candidates.

        Args:
            image_ids: In order of arrival.
            codes: Packed score codes, in the same order.
            ranked: Per image all its earlier candidates; the first `page` are what a search returns.
            page: Candidates per search.
            scorer: Gives scores; called with many pairs at once.
        """
        self._ids = [ImageId(image_id) for image_id in image_ids]
        self._codes = [code.tobytes() for code in codes]
        self._ranked = ranked
        self._page = page
        self._scorer = scorer
        self._known: dict[PairNeed, float] = {}
        self._pages = [self._candidates(image, 0) for image in range(len(self._ids))]
        rows = np.concatenate(
            [np.arange(found.start, min(found.stop, found.start + page)) for found in map(ranked.of, range(len(codes)))]
            or [np.empty(0, np.int64)]
        ).astype(np.int64)
        self.pairs = np.stack([ranked.images[rows], ranked.others[rows]], axis=1)
        """(m, 2): every image with each candidate of its first page, by arrival."""
        self.scores = scorer(codes[self.pairs[:, 0]], codes[self.pairs[:, 1]])
        """Of `pairs`."""
        ends = np.cumsum([len(found.candidates) for found in self._pages])
        self._first_scores = [part.tolist() for part in np.split(self.scores, ends[:-1])] if len(ends) else []

    def heads(self, thresholds: Thresholds) -> list[str]:
        """Streams everything and returns each image's head, in order of arrival."""
        storage = _Storage()
        ports = _Ports(storage, self._score, self._more)
        arrivals = [self._arrival(image, thresholds) for image in range(len(self._ids))]
        start = 0
        while start < len(arrivals):
            start += assign(arrivals[start : start + _BATCH], ports, now_ms=0)
        return [storage.standings[image_id].head for image_id in self._ids]

    def _arrival(self, image: int, thresholds: Thresholds) -> Arrival:
        found = self._pages[image]
        return Arrival(
            offset=image,
            checksum=0,
            image_id=self._ids[image],
            version=1,
            place=image,
            score_code=self._codes[image],
            candidates=found.candidates,
            scores=tuple(self._first_scores[image]),
            exhausted=found.exhausted,
            thresholds=thresholds,
            versions=Versions(),
            unscored="",
            search_vector=b"",
            score_vector=b"",
            created_at_ms=0,
            arrived_at_ms=0,
        )

    def _candidates(self, image: int, after: int) -> More:
        found = self._ranked.of(image)
        start = min(found.stop, found.start + after)
        stop = min(found.stop, start + self._page)
        others, overlaps = (part[start:stop].tolist() for part in (self._ranked.others, self._ranked.overlaps))
        candidates = tuple(
            Candidate(self._ids[other], other, overlap, self._codes[other])
            for other, overlap in zip(others, overlaps, strict=True)
        )
        return More(candidates, exhausted=stop == found.stop)

    def _more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        return {need: self._candidates(need.place, need.after) for need in needs}

    def _score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        lacking = [pair for pair in pairs if pair not in self._known]
        if lacking:
            left, right = (
                np.frombuffer(b"".join(codes), dtype=np.uint8).reshape(len(lacking), -1)
                for codes in ([pair.left for pair in lacking], [pair.right for pair in lacking])
            )
            self._known.update(zip(lacking, self._scorer(left, right).tolist(), strict=True))
        return {pair: self._known[pair] for pair in pairs}


@dataclass
class _Storage:
    """Standings and clusters of a stream without new versions."""

    standings: dict[ImageId, Standing] = field(default_factory=dict)
    clusters: dict[ImageId, Cluster] = field(default_factory=dict)
    offset: int = -1

    def apply(self, decision: Decision) -> None:
        for move in decision.moves:
            if move.old_head is not None:
                self._leave(move.old_head)
            self._join(move.new_head, decision.score_code)
            place = decision.place if move.image_id == decision.image_id else self.standings[move.image_id].place
            self.standings[move.image_id] = Standing(move.image_id, 1, place, move.new_head)
        self.offset = decision.offset

    def _leave(self, head: ImageId) -> None:
        cluster = self.clusters.pop(head)
        if cluster.count > 1:
            self.clusters[head] = Cluster(head, cluster.count - 1, cluster.founding_code)

    def _join(self, head: ImageId, code: bytes) -> None:
        cluster = self.clusters.get(head, Cluster(head, 0, code))
        self.clusters[head] = Cluster(head, cluster.count + 1, cluster.founding_code)


@dataclass(frozen=True)
class _Ports:
    """What the assignment may ask, answered from memory."""

    storage: _Storage
    scores: Callable[[Sequence[PairNeed]], Mapping[PairNeed, float]]
    pages: Callable[[Sequence[MoreNeed]], Mapping[MoreNeed, More]]

    def look_up(self, ids: Collection[ImageId]) -> Lookup:
        standings = {image_id: found for image_id in ids if (found := self.storage.standings.get(image_id))}
        clusters = {standing.head: self.storage.clusters[standing.head] for standing in standings.values()}
        return Lookup(LogPosition("simulated", self.storage.offset), 0, standings, clusters)

    def score(self, pairs: Sequence[PairNeed]) -> Mapping[PairNeed, float]:
        return self.scores(pairs)

    def more(self, needs: Sequence[MoreNeed]) -> Mapping[MoreNeed, More]:
        return self.pages(needs)

    def apply(self, decisions: Sequence[Decision], offset: int, revision: int) -> None:
        for decision in decisions:
            self.storage.apply(decision)
