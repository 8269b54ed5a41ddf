"""What a choice of terms costs: time of one image on one core, and bytes on disk.

The times are those of the index and the classifier on the machine of `docs/benchmarks.md`, as `python -m
benchmarks.search --only costs` and `make bench-scorer` find them; on another one all of them move together, so that the
order of the choices stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from search.tuning.prediction import Prediction

__all__ = ["Cost", "CostModel", "cost_of"]


@dataclass(frozen=True, slots=True)
class CostModel:
    """What the parts of one image's way cost."""

    list_us: float = 0.24
    """To find one posting list and begin to read it: a miss of the cache."""
    posting_us: float = 0.0055
    """To read and count one posting."""
    candidate_us: float = 10.1
    """To look up one candidate, 0.7, and to score the pair, 9.4: 212,000 pairs a second on two cores."""
    max_image_us: float = 5_000.0
    """What one image may cost at most: 200 images a second on one core."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one choice costs."""

    search_us: float
    score_us: float
    posting_bytes: float
    """Of one image's postings, delta-coded in bytes of seven bits."""
    term_bytes: float
    """Of its terms as they are kept beside the postings."""

    @property
    def image_us(self) -> float:
        """One image, searched for and scored."""
        return self.search_us + self.score_us

    @property
    def image_bytes(self) -> float:
        """What one image takes on disk because of its terms; ids and score codes do not depend on the choice."""
        return self.posting_bytes + self.term_bytes


def cost_of(prediction: Prediction, model: CostModel) -> Cost:
    """The cost of what was predicted."""
    choice = prediction.choice
    return Cost(
        search_us=model.list_us * choice.groups + model.posting_us * prediction.postings,
        score_us=model.candidate_us * prediction.found,
        posting_bytes=choice.groups * gap_bytes(min(2.0**choice.bits_per_group, prediction.images)),
        term_bytes=choice.groups * (1 if choice.bits_per_group <= 8 else 2 if choice.bits_per_group <= 16 else 4),
    )


def gap_bytes(mean_gap: float) -> float:
    """Bytes of one gap in variable-byte coding, on average over exponentially distributed gaps of a mean."""
    return 1.0 + sum(exp(-(2.0 ** (7 * more)) / mean_gap) for more in (1, 2, 3, 4))
