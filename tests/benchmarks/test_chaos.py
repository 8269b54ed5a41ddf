"""The order of the faults in the long fault test. Its run is `make chaos`."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from benchmarks.chaos.faults import CALM_FAULTS, FAULTS
from benchmarks.chaos.storm import rounds


@pytest.mark.parametrize("count", [1, 7, 30, 300, 500])
def test_there_are_as_many_faults_as_were_asked_for(count: int) -> None:
    plan = list(rounds(count, 15, random.Random(1)))
    assert sum(len(each.faults) + (each.calm_fault is not None) for each in plan) == count
    assert max(len(each.faults) for each in plan) <= 15


def test_a_whole_run_has_every_kind_in_its_proportion() -> None:
    struck: Counter[str] = Counter()
    for each in rounds(300, 15, random.Random(1)):
        struck.update(each.faults)
        if each.calm_fault is not None:
            struck[each.calm_fault] += 1
    weights = {name: weight for name, (weight, _) in {**FAULTS, **CALM_FAULTS}.items()}
    assert struck.keys() == weights.keys()
    for name, times in struck.items():
        assert abs(times - weights[name] * 300 / sum(weights.values())) <= 1


def test_one_kind_alone_can_be_asked_for() -> None:
    plan = list(rounds(6, 2, random.Random(1), ["power"]))
    assert [each.faults for each in plan] == [("power", "power")] * 3
    calm = list(rounds(3, 15, random.Random(1), ["renewed-log"]))
    assert [(each.faults, each.calm_fault) for each in calm] == [((), "renewed-log")] * 3


def test_the_same_seed_gives_the_same_order() -> None:
    assert list(rounds(50, 15, random.Random(3))) == list(rounds(50, 15, random.Random(3)))
    assert list(rounds(50, 15, random.Random(3))) != list(rounds(50, 15, random.Random(4)))
