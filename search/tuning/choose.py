"""Chooses the cheapest term settings and ranking that find enough of the copies.

Recall (`search.tuning.prediction`) and cost (`search.tuning.cost`) of every combination of a grid are predicted from a
sample. Combinations that cost more than one image may cost are left out. If none of the others finds enough, the one
that finds most is chosen, and the recommendation says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from core.errors import SettingsError
from search.ranking import Order, Ranking
from search.tuning.cost import Cost, CostModel, cost_of
from search.tuning.overlap import same_term_curve
from search.tuning.prediction import Prediction, TermChoice, predict
from search.tuning.sample import SampleDistances

__all__ = ["Grid", "RatedChoice", "Recommendation", "evaluate", "recommend"]


@dataclass(frozen=True, slots=True)
class Grid:
    """The combinations to try."""

    groups: tuple[int, ...] = (16, 32, 48, 64, 96, 128, 192, 256)
    bits_per_group: tuple[int, ...] = (8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 24)
    min_overlaps: tuple[int, ...] = (1, 2, 3)
    depths: tuple[int, ...] = (100, 250, 500, 1000, 2000, 4000, 8000, 10_000)
    """Only with the order by distance."""
    candidates: tuple[int, ...] = (8, 12, 16, 20, 30, 50, 100, 200, 500, 1000, 2500)

    def rankings(self, like: Ranking, groups: int) -> list[Ranking]:
        """The rankings to try with so many groups; order and compared bits are those of `like`."""
        depths = self.depths if like.order is Order.DISTANCE else (like.depth,)
        return [
            replace(like, min_overlap=least, depth=depth, candidates=k)
            for least in self.min_overlaps
            if least <= groups
            for depth in depths
            for k in self.candidates
            if like.order is not Order.DISTANCE or k <= depth
        ]

    def with_terms(self, choice: TermChoice) -> Grid:
        """The same rankings with the groups and bits of a choice alone."""
        return replace(self, groups=(choice.groups,), bits_per_group=(choice.bits_per_group,))


@dataclass(frozen=True, slots=True)
class RatedChoice:
    """One choice with its predicted recall and cost."""

    prediction: Prediction
    cost: Cost

    @property
    def choice(self) -> TermChoice:
        """The settings."""
        return self.prediction.choice


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The choice, and the alternatives."""

    chosen: RatedChoice
    reached: bool
    """Whether the wanted recall is reached; if not, `chosen` has the highest recall that is affordable."""
    frontier: tuple[RatedChoice, ...]
    """The choices of which each finds more than all cheaper ones, by rising cost."""


def evaluate(
    sample: SampleDistances,
    images: int,
    model: CostModel,
    like: Ranking,
    grid: Grid,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[RatedChoice]:
    """Predicts and costs the grid.

    Args:
        sample: The distances of the sample.
        images: The size of the planned corpus.
        model: The costs of the parts of a search.
        like: Order and compared bits of the rankings to try; the rest is from the grid.
        grid: The combinations to try; groups of more bits than the sample has are left out.
        on_progress: Called with the number of groupings that are done, and their total.
    """
    shapes = [(groups, bits) for groups in grid.groups for bits in grid.bits_per_group if bits <= sample.bits]
    found = []
    for done, (groups, bits) in enumerate(shapes):
        on_progress(done, len(shapes))
        if model.posting_us * _postings(sample, images, groups, bits) > model.max_image_us:
            continue
        for prediction in predict(sample, images, groups, bits, grid.rankings(like, groups)):
            found.append(RatedChoice(prediction, cost_of(prediction, model)))
    on_progress(len(shapes), len(shapes))
    return found


def recommend(candidates: Sequence[RatedChoice], recall: float, model: CostModel) -> Recommendation:
    """Picks the cheapest candidate with enough recall.

    Raises:
        SettingsError: No candidate is affordable.
    """
    affordable = [one for one in candidates if one.cost.image_us <= model.max_image_us]
    if not affordable:
        raise SettingsError(
            f"every choice costs more than {model.max_image_us / 1000:g} ms an image: "
            "allow more, or plan for fewer images"
        )
    enough = [one for one in affordable if one.prediction.recall >= recall]
    frontier = _frontier(affordable)
    chosen = min(enough, key=lambda one: (one.cost.image_us, one.choice.key)) if enough else frontier[-1]
    return Recommendation(chosen, bool(enough), frontier)


def _frontier(candidates: Sequence[RatedChoice]) -> tuple[RatedChoice, ...]:
    frontier: list[RatedChoice] = []
    for one in sorted(candidates, key=lambda one: (one.cost.image_us, -one.prediction.recall, one.choice.key)):
        if not frontier or one.prediction.recall > frontier[-1].prediction.recall:
            frontier.append(one)
    return tuple(frontier)


def _postings(sample: SampleDistances, images: int, groups: int, bits_per_group: int) -> float:
    return float(images * groups * (sample.typical_strangers @ same_term_curve(sample.bits, bits_per_group)))
