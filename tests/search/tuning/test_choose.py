"""The chooser takes the cheapest that is enough, or the best that is affordable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from core.errors import SettingsError
from search.ranking import Order, Ranking
from search.tuning.choose import Grid, evaluate, recommend
from search.tuning.cost import CostModel, cost_of, gap_bytes
from search.tuning.prediction import TermChoice
from search.tuning.sample import SampleDistances, measure_distances

MODEL = CostModel()
RANKING = Ranking(candidates=7, depth=70)
GRID = Grid(
    groups=(8, 16, 32), bits_per_group=(6, 8, 12, 30), min_overlaps=(1, 2), depths=(20, 200), candidates=(5, 50)
)


def sample() -> SampleDistances:
    random = np.random.default_rng(6)
    bits = random.random((300, 64)) < 0.5
    copies = bits[:60] ^ (random.random((60, 64)) < 0.12)
    codes = np.vstack([bits, copies]) ^ (random.random((360, 64)) < 0.05)
    return measure_distances(np.vstack([bits, copies]), codes, np.stack([np.arange(60), np.arange(300, 360)], axis=1))


SAMPLE = sample()
ALL = evaluate(SAMPLE, 5_000, MODEL, RANKING, GRID)


def test_every_affordable_combination_is_tried() -> None:
    # With k = 50 a depth of 20 is too small.
    assert len(ALL) == 3 * 4 * 2 * 3
    assert {(one.choice.ranking.depth, one.choice.ranking.candidates) for one in ALL} == {(20, 5), (200, 5), (200, 50)}
    seen: list[tuple[int, int]] = []
    few = evaluate(SAMPLE, 5_000, CostModel(max_image_us=1.0), RANKING, GRID, lambda *done: seen.append(done))
    assert 0 < len(few) < len(ALL)
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)


def test_order_and_compared_bits_are_kept() -> None:
    like = Ranking(order=Order.OVERLAP, depth=70, distance_bits=32)
    found = [one.choice.ranking for one in evaluate(SAMPLE, 5_000, MODEL, like, GRID)]
    assert len(found) == 3 * 4 * 2 * 2  # there is no depth to choose
    assert {(one.order, one.depth, one.distance_bits) for one in found} == {(Order.OVERLAP, 70, 32)}


def test_terms_can_be_kept() -> None:
    grid = GRID.with_terms(TermChoice(11, 7, RANKING))
    found = evaluate(SAMPLE, 5_000, MODEL, RANKING, grid)
    assert len(found) == 2 * 3
    assert {(one.choice.groups, one.choice.bits_per_group) for one in found} == {(11, 7)}


@pytest.mark.parametrize("recall", [0.3, 0.6, 0.8])
def test_the_cheapest_that_is_enough(recall: float) -> None:
    found = recommend(ALL, recall, MODEL)
    assert found.reached
    enough = [one for one in ALL if one.prediction.recall >= recall]
    assert found.chosen.cost.image_us == min(one.cost.image_us for one in enough)


def test_the_best_that_is_affordable() -> None:
    found = recommend(ALL, 0.9999, MODEL)
    assert not found.reached
    assert found.chosen.prediction.recall == max(one.prediction.recall for one in ALL)
    poor = recommend(ALL, 0.9999, CostModel(max_image_us=50.0))
    assert poor.chosen.cost.image_us <= 50.0


def test_of_equally_dear_choices_the_smaller_one_is_taken() -> None:
    large = TermChoice(16, 8, replace(RANKING, depth=90))
    small = TermChoice(16, 8, replace(RANKING, depth=80))
    rated = [replace(ALL[0], prediction=replace(ALL[0].prediction, choice=choice)) for choice in (large, small)]
    found = recommend(rated, ALL[0].prediction.recall / 2, MODEL)
    assert found.chosen.choice == small
    assert [one.choice for one in found.frontier] == [small]


def test_the_frontier_rises() -> None:
    frontier = recommend(ALL, 0.5, MODEL).frontier
    assert [one.cost.image_us for one in frontier] == sorted(one.cost.image_us for one in frontier)
    recalls = [one.prediction.recall for one in frontier]
    assert recalls == sorted(set(recalls))


def test_a_limit_that_nothing_keeps_is_refused() -> None:
    with pytest.raises(SettingsError, match="every choice"):
        recommend(ALL, 0.5, CostModel(max_image_us=0.001))


def test_gaps_take_the_bytes_that_exponential_ones_take() -> None:
    random = np.random.default_rng(9)
    for mean in (2.0, 100.0, 4096.0, 70_000.0):
        gaps = np.floor(random.exponential(mean, 200_000)).astype(np.int64)
        true = 1 + sum((gaps >= 2 ** (7 * more)).mean() for more in (1, 2, 3))
        assert gap_bytes(mean) == pytest.approx(true, rel=0.02)


def test_costs_add_up() -> None:
    one = ALL[0]
    cost = cost_of(one.prediction, MODEL)
    assert cost == one.cost
    assert cost.image_us == cost.search_us + cost.score_us
    assert cost.image_bytes == cost.posting_bytes + cost.term_bytes
    dearer = cost_of(one.prediction, replace(MODEL, code_us=MODEL.code_us + 1.0))
    assert dearer.search_us - cost.search_us == pytest.approx(one.prediction.compared)
