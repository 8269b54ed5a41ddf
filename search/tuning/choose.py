"""The chooser: of all ways of grouping the bits the cheapest one that finds as many copies as wanted.

Every combination of the grid below is predicted on the sample (`search.tuning.prediction`) and costed
(`search.tuning.cost`), but for those that would cost more than one image may, whatever they find. If none of the others
finds enough, the chooser takes the one that finds most, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.errors import SettingsError
from search.tuning.cost import Cost, CostModel, cost_of
from search.tuning.overlap import same_term_curve
from search.tuning.prediction import Prediction, TermChoice, predict
from search.tuning.sample import SampleDistances

__all__ = ["Grid", "RatedChoice", "Recommendation", "evaluate", "recommend"]


@dataclass(frozen=True, slots=True)
class Grid:
    """What is tried."""

    groups: tuple[int, ...] = (16, 32, 48, 64, 96, 128, 192, 256)
    bits_per_group: tuple[int, ...] = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24)
    min_overlaps: tuple[int, ...] = (1, 2, 3)
    candidates: tuple[int, ...] = (50, 100, 200, 500, 1000, 2500)


@dataclass(frozen=True, slots=True)
class RatedChoice:
    """One choice with what it gives and costs."""

    prediction: Prediction
    cost: Cost

    @property
    def choice(self) -> TermChoice:
        """The settings."""
        return self.prediction.choice


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the chooser says."""

    chosen: RatedChoice
    reached: bool
    """Whether the wanted recall is reached; if not, `chosen` finds most of all that are affordable."""
    frontier: tuple[RatedChoice, ...]
    """By rising cost, each finding more than all cheaper ones: the curve."""


def evaluate(
    sample: SampleDistances,
    images: int,
    model: CostModel,
    grid: Grid,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[RatedChoice]:
    """Predicts and costs the grid.

    Args:
        sample: The distances.
        images: Of the corpus planned for.
        model: What things cost.
        grid: What to try; parts that the sample's bits do not allow are left out.
        on_progress: Called with how many ways of grouping are done, of how many.
    """
    shapes = [(groups, bits) for groups in grid.groups for bits in grid.bits_per_group if bits <= sample.bits]
    found = []
    for done, (groups, bits) in enumerate(shapes):
        on_progress(done, len(shapes))
        if model.posting_us * _postings(sample, images, groups, bits) > model.max_image_us:
            continue
        least = [overlap for overlap in grid.min_overlaps if overlap <= groups]
        for prediction in predict(sample, images, groups, bits, least, list(grid.candidates)):
            found.append(RatedChoice(prediction, cost_of(prediction, model)))
    on_progress(len(shapes), len(shapes))
    return found


def recommend(candidates: Sequence[RatedChoice], recall: float, model: CostModel) -> Recommendation:
    """Picks the cheapest candidate of enough recall.

    Raises:
        SettingsError: The recall wanted lies outside of 0 to 1, or no candidate is affordable.
    """
    if not 0 < recall < 1:
        raise SettingsError(f"the recall wanted must lie between 0 and 1, not {recall}")
    affordable = [one for one in candidates if one.cost.image_us <= model.max_image_us]
    if not affordable:
        raise SettingsError(
            f"every choice costs more than {model.max_image_us / 1000:g} ms an image: "
            "allow more, or plan for fewer images"
        )
    enough = [one for one in affordable if one.prediction.recall >= recall]
    frontier = _frontier(affordable)
    chosen = min(enough, key=lambda one: (one.cost.image_us, one.choice)) if enough else frontier[-1]
    return Recommendation(chosen, bool(enough), frontier)


def _frontier(candidates: Sequence[RatedChoice]) -> tuple[RatedChoice, ...]:
    frontier: list[RatedChoice] = []
    for one in sorted(candidates, key=lambda one: (one.cost.image_us, -one.prediction.recall, one.choice)):
        if not frontier or one.prediction.recall > frontier[-1].prediction.recall:
            frontier.append(one)
    return tuple(frontier)


def _postings(sample: SampleDistances, images: int, groups: int, bits_per_group: int) -> float:
    return float(images * groups * (sample.typical_strangers @ same_term_curve(sample.bits, bits_per_group)))
