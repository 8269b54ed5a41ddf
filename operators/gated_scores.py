"""Scores images against their candidates, without those that are too far away for the model to accept them. Pure.

A model's card may name a *gate*: the largest distance of two codes that the model could accept. The index returns the
nearest candidates first, so those within the gate are the first ones of an image. Only they are sent to the scorer; the
others count as no matches and have no score. The gate belongs to the version of the model, so the version decides the
verdict alone: a candidate beyond the gate has no score either where it was sent before the gate was known.

The index may compare only the leading bits of the codes. Such a distance is never above that of all bits, so that a
candidate beyond the gate by it is beyond the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from core.errors import FaultError
from scoring.serving.scorer_pb2 import PairBlock, ScoreResponse
from search.serving.search_pb2 import Candidates

__all__ = ["GatedScores", "ToScore", "gate_of", "within"]

ScoreBlocks = Callable[[Sequence[PairBlock], str], ScoreResponse]
"""The scores of blocks by a version of the model; empty: the served one."""


class ToScore(NamedTuple):
    """An image and the candidates that it is to be scored against."""

    score_code: bytes
    candidates: Candidates


class GatedScores:
    """Keeps the gates of the versions that have answered."""

    def __init__(self, score: ScoreBlocks) -> None:
        """Takes the call of the scorer."""
        self._score = score
        self._gates: dict[str, int | None] = {}
        """By the version that was asked for."""

    def of(self, images: Sequence[ToScore], version: str = "") -> ScoreResponse:
        """The scores of images against their candidates within the gate, which are the first ones of each.

        Args:
            images: At least one.
            version: The version of the model; empty: the served one. The answer names it, and its gate.

        Raises:
            FaultError: The scorer did not answer all pairs.
            ServiceError: It cannot answer.
        """
        used = self._gates.get(version)
        response = self._scored(images, version, used)
        gate = gate_of(response)
        if used is not None and (gate is None or gate > used):  # another model answered: it could accept more
            response = self._scored(images, version, None)
            used, gate = None, gate_of(response)
        self._gates[version] = gate
        if gate is not None and gate != used:
            for row, image in enumerate(images):
                response.scores[row] = response.scores[row][: 4 * within(image.candidates, gate)]
        return response

    def _scored(self, images: Sequence[ToScore], version: str, gate: int | None) -> ScoreResponse:
        counts = [within(image.candidates, gate) for image in images]
        blocks = [_block(image, count) for image, count in zip(images, counts, strict=True)]
        response = self._score(blocks, version)
        if [len(values) for values in response.scores] != [4 * count for count in counts]:
            raise FaultError(f"the scorer did not answer all {sum(counts)} pairs in {len(blocks)} blocks")
        return response


def gate_of(response: ScoreResponse) -> int | None:
    """The gate of the version that answered; None: it has none, so any candidate could match."""
    return response.gate if response.HasField("gate") else None


def within(found: Candidates, gate: int | None) -> int:
    """How many candidates, from the first on, a model with this gate could accept: all, where no distances are known.

    Args:
        found: With the nearest first.
        gate: The gate; None: the model has none.
    """
    if gate is None or not found.distances:
        return len(found.image_ids)
    return int(np.searchsorted(np.frombuffer(found.distances, "<u2"), gate, side="right"))


def _block(image: ToScore, count: int) -> PairBlock:
    codes = image.candidates.score_codes[: count * len(image.score_code)]
    return PairBlock(query_code=image.score_code, candidate_codes=codes)
