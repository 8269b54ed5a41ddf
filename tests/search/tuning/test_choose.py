"""The chooser takes the cheapest that is enough, or the best that is affordable."""

from __future__ import annotations

import numpy as np
import pytest

from core.errors import SettingsError
from search.tuning.choose import Grid, evaluate, recommend
from search.tuning.cost import CostModel, cost_of, gap_bytes
from search.tuning.sample import measure_distances

MODEL = CostModel()
GRID = Grid(groups=(8, 16, 32), bits_per_group=(6, 8, 12, 30), min_overlaps=(1, 2), candidates=(5, 50))


def sample() -> object:
    random = np.random.default_rng(6)
    bits = random.random((300, 64)) < 0.5
    copies = bits[:60] ^ (random.random((60, 64)) < 0.12)
    return measure_distances(np.vstack([bits, copies]), np.stack([np.arange(60), np.arange(300, 360)], axis=1))


SAMPLE = sample()
ALL = evaluate(SAMPLE, 5_000, MODEL, GRID)  # type: ignore[arg-type]


def test_every_affordable_combination_is_tried() -> None:
    assert len(ALL) == 3 * 4 * 2 * 2
    seen: list[tuple[int, int]] = []
    few = evaluate(SAMPLE, 5_000, CostModel(max_image_us=1.0), GRID, lambda *done: seen.append(done))  # type: ignore[arg-type]
    assert 0 < len(few) < len(ALL)
    assert seen[0] == (0, 12)
    assert seen[-1] == (12, 12)


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


def test_the_frontier_rises() -> None:
    frontier = recommend(ALL, 0.5, MODEL).frontier
    assert [one.cost.image_us for one in frontier] == sorted(one.cost.image_us for one in frontier)
    recalls = [one.prediction.recall for one in frontier]
    assert recalls == sorted(set(recalls))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        recommend(ALL, 1.0, MODEL)
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
