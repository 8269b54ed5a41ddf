"""The cost of a choice: time per image on one core, and bytes on disk.

The times are those of index and classifier on the machine of `docs/benchmarks.md` (two cores), measured by `python -m
benchmarks.search --only costs` in an index of 1,000,000 images, and by `make bench-scorer`. That of a code is from
processor time on a busy machine, scaled by that of a search of known time. On another machine they
change by about the same factor, so the order of the choices stays the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from search.tuning.prediction import Prediction

__all__ = ["Cost", "CostModel", "cost_of"]


@dataclass(frozen=True, slots=True)
class CostModel:
    """The times of the parts of a search, in microseconds of one core."""

    list_us: float = 0.24
    """Finding one posting list and beginning to read it: a cache miss."""
    posting_us: float = 0.0055
    """Reading and counting one posting."""
    code_us: float = 0.08
    """Ranking one more image by shared terms, fetching its code and comparing it. At a depth of 1,000 it is more, at
    10,000 less. Scaled from a machine where it took 0.152 and a posting 0.0108."""
    candidate_us: float = 10.1
    """Looking up one candidate (0.7) and scoring the pair (9.4, from 212,000 pairs a second on two cores)."""
    max_image_us: float = 5_000.0
    """The most that one image may cost: 200 images a second on one core."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one choice per image."""

    search_us: float
    """Both stages of the search."""
    score_us: float
    posting_bytes: float
    """Bytes of an image's postings, delta-coded in bytes of seven bits."""
    term_bytes: float
    """Bytes of its terms, which are kept beside the postings."""

    @property
    def image_us(self) -> float:
        """Time to search for one image and to score its candidates."""
        return self.search_us + self.score_us

    @property
    def image_bytes(self) -> float:
        """Bytes on disk for the terms of one image; ids and score codes do not depend on the choice."""
        return self.posting_bytes + self.term_bytes


def cost_of(prediction: Prediction, model: CostModel) -> Cost:
    """The cost of a predicted choice."""
    choice = prediction.choice
    counting_us = model.list_us * choice.groups + model.posting_us * prediction.postings
    return Cost(
        search_us=counting_us + model.code_us * prediction.compared,
        score_us=model.candidate_us * prediction.found,
        posting_bytes=choice.groups * gap_bytes(min(2.0**choice.bits_per_group, prediction.images)),
        term_bytes=choice.groups * (1 if choice.bits_per_group <= 8 else 2 if choice.bits_per_group <= 16 else 4),
    )


def gap_bytes(mean_gap: float) -> float:
    """The mean bytes of one gap in variable-byte coding, for exponentially distributed gaps with this mean."""
    return 1.0 + sum(exp(-(2.0 ** (7 * more)) / mean_gap) for more in (1, 2, 3, 4))
