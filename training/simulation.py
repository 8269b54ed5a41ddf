"""A simulated stream: images arrive one by one, are searched, scored and assigned by the real rule, in memory.

Thresholds for whole clusters cannot be chosen on pairs, so they are chosen on streams like those in service. The rule
is `clustering.rule` itself. Only its inputs are simulated: ranked candidates over arrays replace the search, two lists
replace storage, and there are no batches. Every image arrives once, in one version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, starmap

import numpy as np
from numpy.typing import NDArray

from clustering.planning import MAX_EXTRA_PAGES
from clustering.rule import Match, Placed, Subject, Verdict, judge, matches
from core.types import Candidate, Cluster, ImageId, Move, Thresholds
from search.ranking import Ranking, page_of
from training.candidates import RankedCandidates

__all__ = ["PairScorer", "SimulatedStream"]

PairScorer = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float32]]
"""Scores pairs: packed codes (n, bytes) and the codes (n, bytes) of the other images give scores (n)."""


class SimulatedStream:
    """One order of images, with the candidates of each. It runs with any thresholds; pairs are scored once."""

    def __init__(
        self,
        image_ids: Sequence[str],
        codes: NDArray[np.uint8],
        ranked: RankedCandidates,
        ranking: Ranking,
        scorer: PairScorer,
    ) -> None:
        """Scores the first page of candidates of every image.

        Args:
            image_ids: In order of arrival.
            codes: Packed score codes, in the same order.
            ranked: For each image all its earlier candidates.
            ranking: Says how many of them a page has.
            scorer: Scores pairs; called with many pairs at once.
        """
        self._ids = [ImageId(image_id) for image_id in image_ids]
        self._packed = codes
        self._codes = [code.tobytes() for code in codes]
        self._ranked = ranked
        self._ranking = ranking
        self._scorer = scorer
        self._known: dict[tuple[bytes, bytes], float] = {}
        self._further: dict[tuple[int, int], NDArray[np.float32]] = {}
        counts = np.minimum(np.diff(ranked.starts), page_of(ranking, 0))
        self._ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        images = np.repeat(np.arange(len(counts)), counts)
        rows = np.arange(len(images)) - self._ends[images] + ranked.starts[images]
        self.pairs = np.stack([images, ranked.others[rows]], axis=1)
        """(m, 2): each image with each candidate of its first page, in order of arrival."""
        self.scores = scorer(codes[self.pairs[:, 0]], codes[self.pairs[:, 1]])
        """Scores (m) of `pairs`."""

    def heads(self, thresholds: Thresholds) -> list[str]:
        """Runs the stream and returns the head of each image, in order of arrival."""
        state = _Clusters(self._codes)
        for image, found in enumerate(self._first_matches(thresholds.accept)):
            state.apply(image, self._verdict(image, found, thresholds, state).moves)
        return [state.head_of(image) for image in range(len(self._ids))]

    def _first_matches(self, accept: float) -> list[list[Match]]:
        """For each image the matches of its first page, best first."""
        near = np.flatnonzero(self.scores >= np.float64(accept))
        bounds = np.searchsorted(near, self._ends)
        return [
            self._matches(image, near[start:stop] - self._ends[image], self.scores[near[start:stop]], accept)
            for image, (start, stop) in enumerate(pairwise(bounds.tolist()))
        ]

    def _matches(
        self, image: int, positions: NDArray[np.int64], scores: NDArray[np.float32], accept: float
    ) -> list[Match]:
        """The matches among the candidates at these positions of an image's ranking, best first."""
        rows = positions + self._ranked.starts[image]
        others, overlaps = self._ranked.others[rows].tolist(), self._ranked.overlaps[rows].tolist()
        candidates = (
            Candidate(self._ids[other], other, overlap, self._codes[other])
            for other, overlap in zip(others, overlaps, strict=True)
        )
        return matches(self._ids[image], starmap(Match, zip(candidates, scores.tolist(), strict=True)), accept)

    def _verdict(self, image: int, found: list[Match], thresholds: Thresholds, state: _Clusters) -> Verdict:
        """The verdict of the rule, on as many pages as needed; `clustering.planning` asks for pages in the same way."""
        subject = Subject(self._ids[image], self._codes[image], thresholds, None)
        candidates = int(self._ranked.starts[image + 1] - self._ranked.starts[image])
        seen = page_of(self._ranking, 0)
        for pages in range(1, MAX_EXTRA_PAGES + 2):
            verdict = self._judged(subject, [Placed(match, state.cluster_of(match.candidate.place)) for match in found])
            if not verdict.refused or seen >= candidates:
                break
            if pages <= MAX_EXTRA_PAGES:
                page = slice(seen, min(seen + page_of(self._ranking, seen), candidates))
                further = self._further_matches(image, page, thresholds.accept)
                found, seen = matches(subject.image_id, [*found, *further], thresholds.accept), page.stop
        return verdict

    def _further_matches(self, image: int, page: slice, accept: float) -> list[Match]:
        """The matches on a page after the first, which has these positions of an image's ranking."""
        positions = np.arange(page.start, page.stop)
        scores = self._further.get((image, page.start))
        if scores is None:
            others = self._ranked.others[positions + self._ranked.starts[image]]
            scores = self._scorer(self._packed[np.full(len(others), image)], self._packed[others])
            self._further[image, page.start] = scores
        return self._matches(image, positions, scores, accept)

    def _judged(self, subject: Subject, placed: list[Placed]) -> Verdict:
        """The complete verdict: the rule is called again until no score is missing."""
        lacking: dict[tuple[bytes, bytes], None] = {}

        def score(one: bytes, other: bytes) -> float | None:
            pair = (one, other) if one <= other else (other, one)
            known = self._known.get(pair)
            if known is None:
                lacking[pair] = None
            return known

        while True:
            verdict = judge(subject, placed, score)
            if verdict.complete:
                return verdict
            left, right = (np.frombuffer(b"".join(side), np.uint8) for side in zip(*lacking, strict=True))
            shape = (len(lacking), -1)
            scores = self._scorer(left.reshape(shape), right.reshape(shape)).tolist()
            self._known.update(zip(lacking, scores, strict=True))
            lacking.clear()


class _Clusters:
    """The clusters of a stream; images are numbered by arrival."""

    def __init__(self, codes: list[bytes]) -> None:
        self._codes = codes
        self._cluster: list[Cluster] = []
        self._image: dict[ImageId, int] = {}
        self._head: list[int] = []

    def head_of(self, image: int) -> ImageId:
        return self._cluster[self._head[image]].head

    def cluster_of(self, image: int) -> Cluster:
        return self._cluster[self._head[image]]

    def apply(self, image: int, moves: tuple[Move, ...]) -> None:
        """Adds an image, with the moves of its verdict."""
        self._image[moves[0].image_id] = image
        self._head.append(image)
        self._cluster.append(Cluster(moves[0].image_id, 0, self._codes[image]))
        for move in moves:
            moved, head = self._image[move.image_id], self._image[move.new_head]
            if move.old_head is not None:
                self._grow(self._image[move.old_head], -1)
            self._grow(head, 1)
            self._head[moved] = head

    def _grow(self, head: int, by: int) -> None:
        cluster = self._cluster[head]
        self._cluster[head] = Cluster(cluster.head, cluster.count + by, cluster.founding_code)
