"""From a sample to a recommendation of terms, depth and k, with the measurements behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from core.errors import SettingsError
from search.hashing.score_codes import CodeSettings
from search.hashing.terms import TermSettings
from search.ranking import Ranking
from search.tuning.check import measured_recall
from search.tuning.choose import Grid, RatedChoice, Recommendation, evaluate, recommend
from search.tuning.cost import CostModel, cost_of
from search.tuning.overlap import same_term_curve
from search.tuning.prediction import TermChoice, predict
from search.tuning.sample import SampleDistances, measure_distances
from stream.term_tuning.inputs import CopyPairs, Embeddings

__all__ = ["CurrentSettings", "GroupDensity", "Tuning", "TuningGoal", "tune"]

_CHECKED_PAIRS = 2_000
_SHOWN_BITS = (8, 10, 12, 14, 16, 18, 20, 24)


@dataclass(frozen=True, slots=True, eq=False)
class CurrentSettings:
    """How images are hashed and ranked now."""

    terms: TermSettings
    """Seed, bits and centre are kept; groups and their bits are chosen."""
    code: CodeSettings
    """Kept."""
    ranking: Ranking
    """Order and compared bits are kept; the rest is chosen."""

    @property
    def choice(self) -> TermChoice:
        """What could have been chosen."""
        return TermChoice(self.terms.groups, self.terms.bits_per_group, self.ranking)

    def bits(self, embeddings: Embeddings) -> NDArray[np.bool_]:
        """(n, bits) from which the terms of images are drawn."""
        return self.terms.build().bits(embeddings.search)

    def codes(self, embeddings: Embeddings) -> NDArray[np.uint8]:
        """(n, bytes) the bits of the codes of images, without the values that may follow."""
        return self.code.build().bits(embeddings.score, embeddings.search)


@dataclass(frozen=True, slots=True)
class TuningGoal:
    """What to choose for."""

    images: int
    """The size of the corpus to plan for."""
    recall: float
    """The share of pairs of copies that must be found."""
    model: CostModel
    """The costs of the parts of a search."""

    def __post_init__(self) -> None:
        """Checks the wanted recall."""
        if not 0 < self.recall < 1:
            raise SettingsError(f"the wanted recall must lie between 0 and 1, not {self.recall}")


@dataclass(frozen=True, slots=True)
class GroupDensity:
    """How often two images agree in a group of so many bits."""

    bits_per_group: int
    strangers: float
    above_chance: float
    """`strangers`, divided by the value for independent, balanced bits."""
    copies: float


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """A recommendation and the measurements behind it."""

    sample: SampleDistances
    density: tuple[GroupDensity, ...]
    recommendation: Recommendation
    current: RatedChoice
    """The current settings."""
    predicted_on_sample: float
    """Recall of the chosen settings, predicted for a corpus as large as the sample."""
    measured_on_sample: float
    """Recall of the chosen settings on the sample, counted with real terms and codes."""


def tune(
    now: CurrentSettings,
    embeddings: Embeddings,
    pairs: CopyPairs,
    goal: TuningGoal,
    grid: Grid,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Tuning:
    """Measures the sample, rates a grid of settings, chooses, and checks the choice on the sample.

    Args:
        now: The current settings.
        embeddings: The sample.
        pairs: The copies in the sample.
        goal: What to choose for.
        grid: The combinations to try.
        on_progress: Called with the number of groupings that are done, and their total.

    Raises:
        SettingsError: Nothing is affordable.
        BadInputError: The sample is too small, or a vector is not finite.
    """
    codes, ranking = now.codes(embeddings), now.ranking.for_codes(now.code.bits)
    compared = np.unpackbits(codes, axis=1, count=ranking.distance_bits).astype(bool)
    sample = measure_distances(now.bits(embeddings), compared, pairs.rows, pairs.ignored)
    rated = evaluate(sample, goal.images, goal.model, now.ranking, grid, on_progress)
    recommendation = recommend(rated, goal.recall, goal.model)
    chosen = recommendation.chosen.choice
    return Tuning(
        sample=sample,
        density=tuple(_density(sample, each) for each in _SHOWN_BITS if each <= sample.bits),
        recommendation=recommendation,
        current=_rated(sample, goal.images, now.choice, goal.model),
        predicted_on_sample=_rated(sample, len(codes), chosen, goal.model).prediction.recall,
        measured_on_sample=_measured(now.terms, embeddings.search, codes, pairs.rows, chosen),
    )


def _rated(sample: SampleDistances, images: int, choice: TermChoice, model: CostModel) -> RatedChoice:
    (prediction,) = predict(sample, images, choice.groups, choice.bits_per_group, [choice.ranking])
    return RatedChoice(prediction, cost_of(prediction, model))


def _density(sample: SampleDistances, bits_per_group: int) -> GroupDensity:
    curve = same_term_curve(sample.bits, bits_per_group)
    strangers = float(sample.typical_strangers @ curve / sample.typical_strangers.sum())
    return GroupDensity(
        bits_per_group, strangers, strangers * 2.0**bits_per_group, float(curve[sample.asked.distance].mean())
    )


def _measured(
    terms: TermSettings,
    vectors: NDArray[np.float32],
    codes: NDArray[np.uint8],
    pairs: NDArray[np.int64],
    choice: TermChoice,
) -> float:
    some = np.random.default_rng(3).permutation(len(pairs))[:_CHECKED_PAIRS]
    chosen = replace(terms, groups=choice.groups, bits_per_group=choice.bits_per_group)
    return measured_recall(chosen.build().terms(vectors), codes, pairs[some], choice)
