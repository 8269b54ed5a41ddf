"""From a sample to a recommendation of term settings, with the measurements behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from search.hashing.terms import TermSettings
from search.ranking import Ranking
from search.tuning.check import measured_recall
from search.tuning.choose import Grid, RatedChoice, Recommendation, evaluate, recommend
from search.tuning.cost import CostModel, cost_of
from search.tuning.overlap import same_term_curve
from search.tuning.prediction import TermChoice, predict
from search.tuning.sample import SampleDistances, measure_distances
from stream.term_tuning.inputs import CopyPairs, Embeddings

__all__ = ["CurrentSettings", "GroupDensity", "Tuning", "tune"]

_CHECKED_PAIRS = 2_000
_SHOWN_BITS = (8, 10, 12, 14, 16, 18, 20, 24)


@dataclass(frozen=True, slots=True)
class CurrentSettings:
    """What a signal searches with now."""

    terms: TermSettings
    ranking: Ranking


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
    """Recall of the chosen settings on the sample, counted with real terms."""


def tune(
    current: CurrentSettings,
    embeddings: Embeddings,
    pairs: CopyPairs,
    images: int,
    recall: float,
    model: CostModel,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Tuning:
    """Measures the sample, rates a grid of settings, chooses, and checks the choice on the sample.

    Args:
        current: The settings now; seed, bits and centre of the terms are kept, the rest is chosen.
        embeddings: The sample.
        pairs: The copies in the sample.
        images: The size of the corpus to plan for.
        recall: The share of pairs of copies that must be found.
        model: The costs of the parts of a search.
        on_progress: Called with the number of groupings that are done, and their total.

    Raises:
        SettingsError: The wanted recall lies outside of 0 to 1, or nothing is affordable.
        BadInputError: The sample is too small, or a vector is not finite.
    """
    terms, ranking = current.terms, current.ranking
    bits = terms.build().bits(embeddings.vectors)
    sample = measure_distances(bits, pairs.rows, pairs.ignored)
    recommendation = recommend(evaluate(sample, images, model, Grid(), on_progress), recall, model)
    now = TermChoice(terms.groups, terms.bits_per_group, ranking.min_overlap, ranking.candidates)
    chosen = recommendation.chosen.choice
    return Tuning(
        sample=sample,
        density=tuple(_density(sample, each) for each in _SHOWN_BITS if each <= sample.bits),
        recommendation=recommendation,
        current=_costed(sample, images, now, model),
        predicted_on_sample=_costed(sample, len(bits), chosen, model).prediction.recall,
        measured_on_sample=_measured(terms, embeddings.vectors, pairs.rows, chosen),
    )


def _costed(sample: SampleDistances, images: int, choice: TermChoice, model: CostModel) -> RatedChoice:
    (prediction,) = predict(
        sample, images, choice.groups, choice.bits_per_group, [choice.min_overlap], [choice.candidates]
    )
    return RatedChoice(prediction, cost_of(prediction, model))


def _density(sample: SampleDistances, bits_per_group: int) -> GroupDensity:
    curve = same_term_curve(sample.bits, bits_per_group)
    strangers = float(sample.typical_strangers @ curve / sample.typical_strangers.sum())
    return GroupDensity(
        bits_per_group, strangers, strangers * 2.0**bits_per_group, float(curve[sample.copy_distance].mean())
    )


def _measured(terms: TermSettings, vectors: NDArray[np.float32], pairs: NDArray[np.int64], choice: TermChoice) -> float:
    some = np.random.default_rng(3).permutation(len(pairs))[:_CHECKED_PAIRS]
    chosen = replace(terms, groups=choice.groups, bits_per_group=choice.bits_per_group)
    return measured_recall(chosen.build().terms(vectors), pairs[some], choice)
